"""The web page for everybody: with the keyboard alone, for screen readers, in both themes, on every screen."""

from __future__ import annotations

import json
import re

from dst.status import Health, StatusTree
from dst.testing.fake_admin import FakeAdmin
from test.integration.browser import BrowserCase
from test.integration.page_fixture import ShownAdmin, serve

GIB = 1 << 30

VIEWS = ("#/", "#/clients", "#/events", "#/configuration", "#/at/vol", "#/at/vol/b")

WIDTHS = (360, 768, 1280, 1920)

FOCUSED = "const e = document.activeElement; return e.dataset?.key ?? (e.id || e.textContent)"

# Every text that can be seen, with its colour, and the colours of what it stands on, down to the ground.
TEXTS = """
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node; (node = walker.nextNode());) {
  const element = node.parentElement;
  if (node.data.trim() === "") continue;
  if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
  if (element.closest(".spoken, script, style, noscript, :disabled")) continue;
  const style = getComputedStyle(element);
  const grounds = [];
  for (let at = element; at; at = at.parentElement) grounds.push(getComputedStyle(at).backgroundColor);
  found.push([node.data.trim().slice(0, 40), style.color, grounds]);
}
return found;
"""

CONTRAST_MIN = 4.5
"""Of a text to what it stands on: WCAG 2.2, success criterion 1.4.3, level AA."""

CONTROL_ROLES = {
    "button", "link", "textbox", "searchbox", "checkbox", "radio", "row", "treegrid", "dialog", "navigation", "group",
    "progressbar", "image", "region", "table", "columnheader", "complementary",
}  # fmt: skip
"""What a screen reader has to be able to call by a name."""

UNNAMED = {"row", "group"}
"""What may be called by what is in it."""


def luminance(colour: str) -> tuple[float, float]:
    """Relative luminance by WCAG 2.2, and opacity, of C{rgb(...)} or C{rgba(...)}."""
    parts = [float(each) for each in re.findall(r"[\d.]+", colour)]
    linear = [
        (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4) for c in (each / 255 for each in parts[:3])
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2], parts[3] if len(parts) > 3 else 1.0


def contrast(text: str, grounds: list[str]) -> float:
    """Of a text on the first ground that can be seen."""
    ground = next(value for value, opacity in map(luminance, grounds) if opacity == 1.0)
    value, _ = luminance(text)
    return (max(value, ground) + 0.05) / (min(value, ground) + 0.05)


class ThemeTests(BrowserCase):
    """Light and dark."""

    async def test_contrast(self) -> None:
        """Every text can be read in both themes, in every view, also in a question and its error."""
        await self.show(serve(self, ShownAdmin()))
        for theme in ("light", "dark"):
            await self.browser.look(theme=theme)
            for view in VIEWS:
                await self.browser.run("location.hash = arguments[0]", view)
                await self.until(
                    "return document.querySelector('main > section:not([hidden])').innerText.length > 40"
                )
                if "/at/" in view:
                    await self.until("return document.querySelector('.why').innerText.includes('Next')")
                await self.assert_readable(f"{theme} {view}")
            find = "[...document.querySelectorAll('.actions button')].find((b) => b.textContent === 'Replace …')"
            await self.browser.run(f"{find}.click()")
            await self.browser.run("document.querySelector('#confirm-error').hidden = false")
            await self.assert_readable(f"{theme} question")
            await self.browser.press("Escape", "?")
            await self.until("return document.querySelector('#help').open")
            await self.assert_readable(f"{theme} help")
            await self.browser.press("Escape")

    async def assert_readable(self, where: str) -> None:
        texts = await self.browser.run(TEXTS)
        self.assertGreater(len(texts), 15, where)
        poor = {
            (text, colour, round(contrast(colour, grounds), 2))
            for text, colour, grounds in texts
            if contrast(colour, grounds) < CONTRAST_MIN
        }
        self.assertEqual(set(), poor, where)

    async def test_switch(self) -> None:
        """The reader's choice goes before the system's, and is remembered."""
        url = serve(self, FakeAdmin())
        await self.show(url, theme="light")
        ground = "return getComputedStyle(document.body).backgroundColor"
        light = await self.browser.run(ground)
        await self.browser.look(theme="dark")
        dark = await self.browser.run(ground)
        self.assertLess(luminance(dark)[0], 0.1)
        self.assertGreater(luminance(light)[0], 0.8)
        await self.browser.press("t")
        self.assertEqual(
            "Colours: light", await self.browser.run("return document.querySelector('#theme').ariaLabel")
        )
        self.assertEqual(light, await self.browser.run(ground))
        await self.browser.open(url)
        self.assertEqual(light, await self.browser.run(ground))
        await self.browser.look(theme="light")
        await self.browser.click("#theme")
        self.assertEqual(dark, await self.browser.run(ground))


class ScreenTests(BrowserCase):
    """Narrow and wide."""

    async def test_widths(self) -> None:
        """Nothing sticks out at the side, from a phone to a wall."""
        await self.show(serve(self, ShownAdmin()))
        for width in WIDTHS:
            await self.browser.look(width=width, mobile=width < 500)
            for view in VIEWS:
                await self.browser.run("location.hash = arguments[0]", view)
                await self.until(
                    "return document.querySelector('main > section:not([hidden])').innerText.length > 40"
                )
                found = await self.browser.run(
                    """
                    const out = [...document.querySelectorAll('body *')].filter((e) => e.checkVisibility()
                      && !e.closest('.spoken, nav, pre, .skip, svg')
                      && e.getBoundingClientRect().right > innerWidth + 1);
                    const names = out.map((e) => e.className + e.id).slice(0, 5);
                    return [document.documentElement.scrollWidth - innerWidth, names];
                    """
                )
                self.assertEqual([0, []], [max(0, found[0]), found[1]], f"{width} {view}")

    async def test_covered(self) -> None:
        """On a phone the details cover the rest, which cannot be reached by accident then; Escape goes back."""
        await self.show(serve(self, FakeAdmin()), width=360, mobile=True)
        await self.browser.click('[data-key="vol/b"]')
        await self.until("return !document.querySelector('#detail').hidden")
        self.assertTrue(await self.browser.run("return document.querySelector('#main').inert"))
        box = await self.browser.run(
            "const b = document.querySelector('#detail').getBoundingClientRect(); return [b.left, b.top, b.width]"
        )
        self.assertEqual([0, 0, 360], box)
        await self.browser.press("Escape")
        await self.until("return document.querySelector('#detail').hidden")
        self.assertEqual("vol/b", await self.browser.run(FOCUSED))

    async def test_targets(self) -> None:
        """What is to be touched is large enough for a finger: WCAG 2.2, success criterion 2.5.8."""
        await self.show(serve(self, ShownAdmin()), width=360, mobile=True)
        for view in VIEWS:
            await self.browser.run("location.hash = arguments[0]", view)
            small = await self.until(
                """
                return [...document.querySelectorAll('button, input, nav a, [role=row][data-key], .button')]
                  .filter((e) => e.checkVisibility())
                  .map((e) => [e.textContent || e.id, e.getBoundingClientRect().toJSON()])
                  .filter(([, box]) => box.height < 24 || box.width < 24).map(([name]) => name).concat('looked')
                """
            )
            self.assertEqual(["looked"], small, view)


class KeyboardTests(BrowserCase):
    """Without a pointer."""

    async def test_everything(self) -> None:
        """From the top of the page to a member that is suspended and resumed, by keys alone."""
        admin = FakeAdmin()
        await self.show(serve(self, admin))
        await self.browser.press("Tab")
        self.assertEqual("Skip to the storages", await self.browser.run(FOCUSED))
        for _ in range(20):
            await self.browser.press("Tab")
            if await self.browser.run(FOCUSED) == "fresh":
                break
        self.assertEqual("fresh", await self.browser.run(FOCUSED))
        outline = "return getComputedStyle(document.activeElement).outlineStyle"
        self.assertEqual("solid", await self.browser.run(outline))
        await self.browser.press("ArrowLeft", "ArrowDown")
        self.assertEqual("vol", await self.browser.run(FOCUSED))
        await self.browser.press("ArrowRight", "ArrowDown")
        self.assertEqual("vol/b", await self.browser.run(FOCUSED))
        await self.browser.press("End")
        last = await self.browser.run(FOCUSED)
        await self.browser.press("Home")
        self.assertNotEqual(last, await self.browser.run(FOCUSED))
        await self.browser.press("ArrowRight")
        while await self.browser.run(FOCUSED) != "vol/b":
            await self.browser.press("ArrowDown")
        await self.browser.press("Enter")
        await self.until("return document.activeElement.id === 'detail-title'")
        for label, call in (("Suspend", "suspend"), ("Resume", "resume")):
            find = "return document.activeElement.textContent === arguments[0]"
            for _ in range(12):
                await self.browser.press("Tab")
                if await self.browser.run(find, label):
                    break
            await self.browser.press("Enter")
            await self.until("return document.querySelector('#confirm').open")
            self.assertEqual("confirm-no", await self.browser.run(FOCUSED))
            await self.browser.press("Tab", "Enter")
            await self.until("return !document.querySelector('#confirm').open")
            await self.eventually(lambda call=call: (call, "vol", "b") in admin.calls, call)
            await self.browser.run("document.querySelector('#detail-title').focus()")
            await self.until(
                "const all = [...document.querySelectorAll('.actions button')];"
                "return all.some((b) => b.textContent === arguments[0])",
                "Resume" if call == "suspend" else "Pause resync",
            )
        await self.browser.press("Escape")
        await self.until("return document.querySelector('#detail').hidden")
        self.assertEqual("vol/b", await self.browser.run(FOCUSED), "back where it was")

    async def test_letters(self) -> None:
        """Letters go to views, filter and help, not while something is typed, and not when they are switched off."""
        await self.show(serve(self, FakeAdmin()))
        for number, view in (("2", "clients"), ("3", "events"), ("4", "configuration"), ("1", "overview")):
            await self.browser.press(number)
            await self.until("return !document.querySelector(arguments[0]).hidden", f"#view-{view}")
        await self.browser.press("/", *"spa")
        await self.until("return document.querySelectorAll('.group:not([hidden]) .row').length === 1")
        self.assertEqual(
            "spare", await self.browser.run("return document.querySelector('.group:not([hidden]) .row').dataset.key")
        )
        await self.browser.press("2", "Escape")
        await self.until("return document.querySelectorAll('.group:not([hidden]) .row').length > 1")
        await self.browser.press("?")
        await self.until("return document.querySelector('#help').open")
        await self.browser.run("document.querySelector('#letters').focus()")
        await self.browser.press("Space", "Escape")
        await self.until("return !document.querySelector('#help').open")
        await self.browser.press("2")
        self.assertEqual("#/", await self.browser.run("return location.hash || '#/'"))

    async def test_focus_stays(self) -> None:
        """What has the focus keeps it while everything around it changes."""
        admin = FakeAdmin()
        await self.show(serve(self, admin))
        await self.browser.run("document.querySelector('[data-key=\"vol/b\"]').focus()")
        admin.trees = [*admin.trees, StatusTree("another", "memory", Health.HEALTHY, "ready", size=GIB)]
        await admin.suspend("vol", "a")
        await self.until("return document.querySelector('[data-key=another]') !== null")
        self.assertEqual("vol/b", await self.browser.run(FOCUSED))


class ScreenReaderTests(BrowserCase):
    """As it is told to those who do not see it."""

    async def test_names(self) -> None:
        """Every control has a name, and a role that a screen reader knows."""
        await self.show(serve(self, ShownAdmin()))
        for view in VIEWS:
            await self.browser.run("location.hash = arguments[0]", view)
            await self.until("return document.querySelector('main > section:not([hidden])').innerText.length > 40")
            nodes = (await self.browser.cdp("Accessibility.getFullAXTree"))["nodes"]
            roles: dict[str, int] = {}
            for node in nodes:
                role = node.get("role", {}).get("value", "")
                if node.get("ignored") or role not in CONTROL_ROLES:
                    continue
                roles[role] = roles.get(role, 0) + 1
                name = node.get("name", {}).get("value", "")
                self.assertTrue(name.strip() or role in UNNAMED, f"{view}: {json.dumps(node)[:400]}")
            self.assertGreater(roles.get("link", 0), 3, roles)
            if view == "#/":
                self.assertGreater(roles["row"], 12, roles)
                self.assertEqual(1, roles["treegrid"])
                self.assertGreaterEqual(roles["progressbar"], 1)

    async def test_structure(self) -> None:
        """Rows say how deep they are and whether they are open; parts of the page are what they say they are."""
        await self.show(serve(self, ShownAdmin()))
        levels = await self.browser.run(
            "const rows = [...document.querySelectorAll('.row[data-key]')];"
            "return rows.map((row) => [row.dataset.key, row.ariaLevel, row.ariaExpanded])"
        )
        self.assertIn(["vol", "1", "true"], levels)
        self.assertIn(["vol/c/inner/q", "4", None], levels)
        self.assertEqual("en", await self.browser.run("return document.documentElement.lang"))
        for selector in ("main", "nav[aria-label]", "[role=status][aria-live=polite]", "[role=alert]"):
            self.assertTrue(await self.browser.run("return document.querySelector(arguments[0]) !== null", selector))
        self.assertEqual(
            0,
            await self.browser.run(
                'return document.querySelectorAll(\'[tabindex]:not([tabindex="0"], [tabindex="-1"])\').length'
            ),
        )
