"""The web page in a real browser, about a cluster that shows everything: what is seen, asked, done and pressed."""

from __future__ import annotations

import os
import time
from pathlib import Path

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.task import deferLater

from dst.admin.authentication import Doorkeeper, LocalUsers
from dst.admin.site import make_site
from dst.admin.tokens import TokenStore
from dst.administration import HealthFinding, Severity
from dst.errors import Unavailable
from dst.explaining import Explanation, ScrubRecord
from dst.identity import Role
from dst.status import Health, MemberState, StatusTree
from dst.testing.fake_admin import FakeAdmin
from test.integration.browser import BrowserCase
from test.integration.page_fixture import NOW, ShownAdmin, serve

SCREENSHOTS = os.environ.get("DST_SCREENSHOTS", "")
"""Where pictures are put, if anywhere: C{docs/images}."""

SCREENSHOT_S = 100.0
"""How long the clients of the pictures read and write before they are taken."""

GIB = 1 << 30

SELECTED = "return document.querySelector('[aria-selected=true] .name')?.textContent"
DIALOG = "return document.querySelector('#confirm').open"


def row(*path: str) -> str:
    """What finds the row of something."""
    return f'[data-key="{"/".join(path)}"]'


class SeeingTests(BrowserCase):
    """What there is to see."""

    async def test_down_to_the_leaves(self) -> None:
        """Every storage and node is there with its state and reason, through other daemons; all from this daemon."""
        url = serve(self, ShownAdmin())
        await self.show(url)
        for path, said in (
            (("archive",), ("stripe", "frozen", "operations wait until it is back")),
            (("archive", "far-b"), ("remote", "absent", "no route to host")),
            (("scratch", "other"), ("refused", "nothing is overwritten")),
            (("usb",), ("away", "no such file or directory")),
            (("vm",), ("healthy", "1 copy can be lost", "32.0 GiB", "12 d")),
            (("vol", "b"), ("resyncing", "43.1%", "7.39 GiB left", "118 MiB/s", "1 min 4 s to go")),
            (("vol", "c", "inner", "q"), ("file", "in-sync")),
        ):
            found = await self.text(row(*path))
            for each in said:
                self.assertIn(each, found)
        self.assertIn("failed", await self.text("#health"))
        tiles = (
            await self.until("return document.querySelector('#tiles').innerText.includes('Traffic')")
        ) and await self.text("#tiles")
        for each in ("Storages\n4", "1 at risk", "43.1%", "Clients\n3"):
            self.assertIn(each, tiles)
        findings = await self.text("#finding-list")
        self.assertLess(findings.index("STORAGE_FROZEN"), findings.index("STORAGE_DEGRADED"), "the worst first")
        elsewhere = await self.browser.run(
            "const all = performance.getEntriesByType('resource').map((entry) => entry.name);"
            "return all.filter((name) => !name.startsWith(arguments[0]))",
            url,
        )
        self.assertEqual([], elsewhere)
        self.assertEqual([], await self.browser.complaints())

    async def test_details(self) -> None:
        """A row that is clicked tells why, what can be done, what passed, what was copied, and every fact."""
        await self.show(serve(self, ShownAdmin()))
        await self.browser.click(row("vol", "b"))
        await self.until("return document.querySelector('.why').innerText.includes('Next')")
        found = await self.text("#detail")
        for each in (
            "resyncing",
            "it was absent for 5 min 12 s",
            "Suspend",
            "Replace",
            "Pause resync",
            "58.0 GiB copied",
        ):
            self.assertIn(each, found)
        self.assertEqual("b", await self.browser.run(SELECTED))
        await self.browser.click("#detail .trail a")
        await self.until("return document.querySelector('#detail-title').textContent === 'vol'")
        await self.until("return document.querySelectorAll('.charts .line[d]').length >= 7")
        label = await self.until(
            "const said = document.querySelector('.chart svg').ariaLabel; return said.includes('MiB/s') && said"
        )
        self.assertRegex(label, r"Throughput over the last 5 min: read [\d.]+ MiB/s, written [\d.]+ MiB/s; at most")

    async def test_address(self) -> None:
        """What is looked at stands in the address, so that it can be sent to somebody."""
        url = serve(self, ShownAdmin())
        await self.show(f"{url}#/at/vol/b")
        self.assertEqual("b", await self.text("#detail-title"))
        await self.until(
            "const box = document.querySelector(arguments[0]).getBoundingClientRect();"
            "return box.top >= 0 && box.bottom <= innerHeight",
            row("vol", "b"),
        )
        self.assertEqual("b", await self.browser.run(SELECTED))
        await self.browser.run(
            "history.pushState(null, '', '#/at/gone'); dispatchEvent(new HashChangeEvent('hashchange'))"
        )
        await self.until("return document.querySelector('#detail .reason').innerText === 'It is not there any more.'")

    async def test_odd_names(self) -> None:
        """A name is only a name, whatever characters it has."""
        admin = FakeAdmin()
        name = "<img src=x onerror=alert(1)> a/b%2f?#\"'"
        admin.trees = [evolve(tree, name=name if tree.name == "vol" else tree.name) for tree in admin.trees]
        await self.show(serve(self, admin))
        self.assertIn(name, await self.text("#tree"))
        await self.browser.run(
            "[...document.querySelectorAll('.name')].find((n) => n.textContent.includes('<img')).click()"
        )
        await self.until("return document.querySelector('#detail-title').textContent === arguments[0]", name)
        await self.until("return document.querySelector('.why').innerText.includes('Nothing: all is well.')")
        await self.browser.run(
            "[...document.querySelectorAll('#detail button')].find((b) => b.textContent === 'Grow').click()"
        )
        await self.browser.click("#confirm-yes")
        await self.eventually(lambda: ("grow", name) in admin.calls, "the operation reaches the daemon")
        self.assertEqual(0, await self.browser.run("return document.querySelectorAll('img:not([alt=\"\"])').length"))

    async def test_events(self) -> None:
        """What has happened is listed, what happens is added at once, and what happened while away is made up for."""
        admin = ShownAdmin()
        site = make_site(admin, clock=reactor, now=admin.now)
        port = reactor.listenTCP(0, site, interface="127.0.0.1")
        number = port.getHost().port
        await self.show(f"http://127.0.0.1:{number}/#/events", wait_for=".event")
        listed = await self.text("#event-list")
        self.assertIn("the daemon was started", listed)
        self.assertLess(listed.index("vm has its copies again"), listed.index("the daemon was started"))
        admin.happen(sentence="vol lost its lease")
        await self.until("return document.querySelector('#event-list').innerText.includes('vol lost its lease')")
        await self.until("return document.querySelector('#announcer').textContent.includes('vol lost its lease')")
        await port.stopListening()
        await site.close()
        await self.until("return !document.querySelector('#banner').hidden")
        admin.happen(sentence="while nobody listened")
        site = make_site(admin, clock=reactor, now=admin.now)
        port = reactor.listenTCP(number, site, interface="127.0.0.1")
        self.addCleanup(site.close)
        self.addCleanup(port.stopListening)
        await self.until("return document.querySelector('#event-list').innerText.includes('while nobody listened')")
        sentences = await self.browser.run(
            "return [...document.querySelectorAll('.event-words')].map((e) => e.innerText)"
        )
        self.assertEqual(len(sentences), len(set(sentences)), "each is there once")
        await self.browser.click("[data-severity=critical]")
        self.assertEqual(1, await self.browser.run("return document.querySelectorAll('.event').length"))

    async def test_subjects(self) -> None:
        """What a finding is about can be looked at, or at least what it belongs to; a certificate cannot."""
        admin = ShownAdmin()
        admin.findings = [
            HealthFinding("A", Severity.WARNING, subject, "it is not as it should be", NOW)
            for subject in ("vol/b", "vol/witness", "vol", "beta", "vols", "")
        ]
        await self.show(serve(self, admin), wait_for=".finding")
        links = await self.browser.run(
            "const all = [...document.querySelectorAll('.finding a, .more')];"
            "return all.filter((link) => link.checkVisibility()).map((link) => link.hash ?? link.textContent)"
        )
        self.assertEqual(["#/at/vol/b", "#/at/vol", "#/at/vol", "1 more"], links)
        await self.browser.click(".more")
        self.assertEqual(6, await self.browser.run("return document.querySelectorAll('.finding').length"))

    async def test_clients(self) -> None:
        """Exports say who may, sessions who does; a session is ended after a question."""
        admin = ShownAdmin()
        await self.show(f"{serve(self, admin)}#/clients", wait_for="#sessions td")
        await self.until("return document.querySelector('#exports').innerText.includes('from 192.0.2.0/24: read')")
        self.assertIn("nobody", await self.text("#exports"))
        self.assertIn("backup at 192.0.2.41:55012", await self.text("#sessions"))
        self.assertIn("required", await self.text("#listeners"))
        await self.browser.click("[data-session='12']")
        self.assertIn("comes back at once", await self.text("#confirm"))
        self.assertEqual([], admin.ended)
        await self.browser.click("#confirm-yes")
        await self.until("return !document.querySelector('#sessions').innerText.includes('backup')")
        self.assertEqual(["12"], admin.ended)

    async def test_configuration(self) -> None:
        """What is wanted is shown as the file that says it, with what only a restart brings."""
        await self.show(f"{serve(self, ShownAdmin())}#/configuration", wait_for=".notes li")
        self.assertIn('[nodes.b]\nuri = "dst://192.0.2.12:7450/b"', await self.text("#configuration-text"))
        self.assertIn("/etc/dst/dst.toml", await self.text("#configuration-about"))
        self.assertIn("After a restart: the listener dst is new", await self.text("#configuration-after"))

    async def test_changes_are_spoken(self) -> None:
        """A screen reader is told what changed, and not all of it again."""
        admin = FakeAdmin()
        await self.show(serve(self, admin))
        await admin.suspend("vol", "b")
        await self.until("return document.querySelector('#announcer').textContent.startsWith('vol is degraded')")
        self.assertIn("suspended", await self.text(row("vol", "b")))

    async def test_clock_skew(self) -> None:
        """How long something has been so is told by the daemon's clock, however wrong the browser's is."""
        admin = FakeAdmin()
        ahead_s = 5400.0
        admin.trees = [evolve(tree, since=time.time() + ahead_s - 125) for tree in admin.trees]
        site = make_site(admin, clock=reactor, now=lambda: time.time() + ahead_s)
        port = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(site.close)
        self.addCleanup(port.stopListening)
        await self.show(f"http://127.0.0.1:{port.getHost().port}/")
        self.assertRegex(await self.text(f"{row('vol')} .cell-age"), r"^2 min( \d s)?$")
        await self.until("return document.querySelector('#clock').innerText.includes('1 h 30 min ahead of')")


class OperatingTests(BrowserCase):
    """What can be done, and that nothing is done by one click."""

    async def choose(self, admin: FakeAdmin, path: tuple[str, ...], label: str) -> None:
        """A page with the question of an operation."""
        await self.show(serve(self, admin))
        await self.press_button(path, label)

    async def press_button(self, path: tuple[str, ...], label: str) -> None:
        await self.browser.click(row(*path))
        find = "[...document.querySelectorAll('#detail .actions button')].find((b) => b.textContent === arguments[0])"
        await self.until(f"return {find} !== undefined", label)
        await self.browser.run(f"{find}.click()", label)
        await self.until(DIALOG)

    async def test_suspend(self) -> None:
        """The question says what is left; only the answer does it, and what came of it is told."""
        admin = FakeAdmin()
        await self.choose(admin, ("vol", "b"), "Suspend")
        self.assertIn("vol goes on with 2 copies: then 1 more can be lost.", await self.text("#confirm"))
        self.assertEqual("confirm-no", await self.browser.run("return document.activeElement.id"))
        await self.browser.press("Escape")
        await self.until("return !document.querySelector('#confirm').open")
        self.assertEqual([], admin.calls)
        await self.press_button(("vol", "b"), "Suspend")
        await self.browser.click("#confirm-yes")
        await self.until("return document.querySelector('#toast').innerText === 'b is suspended.'")
        self.assertEqual([("suspend", "vol", "b")], admin.calls)
        await self.until(
            "return document.querySelector(arguments[0]).innerText.includes('suspended')", row("vol", "b")
        )
        await self.press_button(("vol", "b"), "Resume")
        await self.browser.click("#confirm-yes")
        await self.eventually(lambda: ("resume", "vol", "b") in admin.calls, "it is resumed")

    async def test_error(self) -> None:
        """What is refused says why and what to do, and can be asked again."""
        admin = FakeAdmin()
        await self.choose(admin, ("vol", "b"), "Mark dirty")
        admin.failing = Unavailable("the owner is away")
        await self.browser.click("#confirm-yes")
        await self.until("return !document.querySelector('#confirm-error').hidden")
        self.assertIn("the owner is away", await self.text("#confirm-error"))
        self.assertIn("dst status", await self.text("#confirm-error .correction"))
        admin.failing = None
        await self.browser.click("#confirm-yes")
        await self.until("return !document.querySelector('#confirm').open")
        self.assertEqual(2, admin.calls.count(("mark-dirty", "vol", "b")))

    async def test_last_copy(self) -> None:
        """What is never done is not offered, and says why."""
        admin = FakeAdmin()
        for name in ("a", "b"):
            await admin.suspend("vol", name)
        await self.show(serve(self, admin))
        await self.browser.click(row("vol", "c"))
        script = (
            "return [...document.querySelectorAll('#detail .actions button')].map((b) => [b.textContent, b.title])"
        )
        offered = await self.until(f"{script}.length > 0 && {script.removeprefix('return ')}")
        self.assertEqual(
            {"Suspend": "It is the last copy in sync.", "Mark dirty": "It is the last copy in sync."},
            {label: why for label, why in offered if label in ("Suspend", "Mark dirty")},
        )
        disabled = "return document.querySelectorAll('#detail .actions button:disabled').length"
        self.assertEqual(3, await self.browser.run(disabled))

    async def test_grave(self) -> None:
        """What can lose data is done only after the name of the storage was typed."""
        admin = FakeAdmin()
        await admin.suspend("vol", "b")
        await self.choose(admin, ("vol", "b"), "Mark clean …")
        enabled = "return !document.querySelector('#confirm-yes').disabled"
        self.assertFalse(await self.browser.run(enabled))
        await self.browser.press(*"vo")
        self.assertFalse(await self.browser.run(enabled))
        await self.browser.press("Enter")
        self.assertTrue(await self.browser.run(DIALOG))
        await self.browser.press("l", "Enter")
        await self.until("return !document.querySelector('#confirm').open")
        self.assertEqual([("suspend", "vol", "b"), ("mark-clean", "vol", "b")], admin.calls)

    async def test_replace(self) -> None:
        """What takes the place of a member is asked for; a daemon that does not take it says so."""
        admin = FakeAdmin()
        await self.choose(admin, ("vol", "b"), "Replace …")
        self.assertIn("What the new media holds is lost", await self.text("#confirm"))
        await self.browser.press(*"pigeon:x", "Tab", *"vol", "Enter")
        await self.until(
            "return document.querySelector('#confirm-error').innerText.includes('no plugin makes nodes')"
        )
        await self.browser.run("document.querySelector('#confirm [name=uri]').value = 'memory:?size=64M'")
        await self.browser.click("#confirm-yes")
        await self.until("return !document.querySelector('#confirm').open")
        self.assertEqual(("replace", "vol", "b", "memory:?size=64M"), admin.calls[-1])

    async def test_initialise(self) -> None:
        """What is kept of a new storage has to be chosen; there is no choice beforehand."""
        admin = FakeAdmin()
        await self.choose(admin, ("fresh",), "Initialise …")
        self.assertIn("holds data and no label", await self.text("#confirm"))
        self.assertEqual(0, await self.browser.run("return document.querySelectorAll('#confirm :checked').length"))
        await self.browser.click("#confirm [value=x]")
        await self.browser.run("document.querySelector('#confirm [data-wanted]').focus()")
        await self.browser.press(*"fresh", "Enter")
        await self.until("return !document.querySelector('#confirm').open")
        self.assertEqual([("initialise", "fresh", "x", "")], admin.calls)

    async def test_histories(self) -> None:
        """Of two histories one is chosen, with what each choice loses beside it."""
        admin = FakeAdmin()
        admin.diverged.add("vol")
        admin.trees = [_diverged(tree) if tree.name == "vol" else tree for tree in admin.trees]
        explained = Explanation("vol", "mirror", Health.FROZEN, "connecting", 0.0, "two histories", row="diverged")
        admin.explanations = [explained]
        await self.choose(admin, ("vol",), "Choose a history …")
        self.assertIn("To keep this one loses at most 12.0 MiB", await self.text("#confirm"))
        await self.browser.click("#confirm [value=b]")
        await self.browser.run("document.querySelector('#confirm [data-wanted]').focus()")
        await self.browser.press(*"vol", "Enter")
        await self.until("return !document.querySelector('#confirm').open")
        self.assertEqual([("resolve", "vol", "b")], admin.calls)

    async def test_scrub(self) -> None:
        """Copies are compared, with or without mending; how far it is and what was found stands in the details."""
        admin = FakeAdmin()
        found = {"undecided_bytes": 4096, "undecided": ((8192, 4096, "a | b c"),)}
        admin.scrubbed["vol"] = [ScrubRecord("done", 1.7e9, 1.7e9 + 60, True, GIB, 0, **found)]
        await self.choose(admin, ("vol",), "Scrub …")
        await self.browser.click("#confirm [value=no]")
        await self.browser.click("#confirm-yes")
        await self.until("return document.querySelector('#toast').innerText.includes('being compared')")
        self.assertEqual([("scrub", "vol", "")], admin.calls)
        await self.until("return document.querySelector('#detail').innerText.includes('scrub · 0.0%')")
        self.assertIn("4.00 KiB differ and no copy is more credible", await self.text("#detail"))
        self.assertIn("4.00 KiB at 8,192: a | b c", await self.text("#detail"))
        await self.press_button(("vol",), "Stop scrub")
        await self.browser.click("#confirm-yes")
        await self.until("return document.querySelector('#detail').innerText.includes('stopped before its end')")
        self.assertEqual(("stop-scrub", "vol"), admin.calls[-1])

    async def test_busy(self) -> None:
        """While it takes its time that is shown, it is not asked twice, and the page can be used meanwhile."""
        admin = FakeAdmin()
        await self.choose(admin, ("vol",), "Grow")
        admin.waiting = True
        admin.room["vol"] = 1 << 40
        await self.browser.click("#confirm-yes")
        await self.until("return document.querySelector('#confirm-busy').innerText.includes('Growing')")
        self.assertTrue(await self.browser.run("return document.querySelector('#confirm-yes').disabled"))
        await self.until("return document.querySelector('#confirm-no').innerText === 'Close: it goes on'")
        await self.browser.click("#confirm-no")
        admin.waiting = False
        admin.release()
        await self.until("return document.querySelector('#toast').innerText === 'vol has grown.'")
        self.assertEqual([("grow", "vol")], admin.calls)


def _diverged(tree: StatusTree) -> StatusTree:
    lost = "To keep this one loses at most 12.0 MiB, to keep the other at most 3.00 MiB, as things were then"
    children = (
        evolve(tree.children[0], state=MemberState.ABSENT.value, health=Health.FAILED),
        evolve(tree.children[1], state=MemberState.ABSENT.value, health=Health.FAILED, reason=lost),
    )
    return evolve(tree, health=Health.FROZEN, state="connecting", reason="it has two histories", children=children)


class ConnectionTests(BrowserCase):
    """A daemon that goes, comes, and wants to know who asks."""

    async def test_restart(self) -> None:
        """While no daemon answers that is said, with what is old; when one does again, all is as it is now."""
        admin = FakeAdmin()
        site = make_site(admin, clock=reactor)
        port = reactor.listenTCP(0, site, interface="127.0.0.1")
        number = port.getHost().port
        await self.show(f"http://127.0.0.1:{number}/")
        await self.until("return document.querySelector('#connection').innerText === 'live'")
        await port.stopListening()
        await site.close()
        await self.until("return document.querySelector('#banner').innerText.includes('Connection lost')")
        self.assertIn("What is shown is how it was at", await self.text("#banner"))
        self.assertIn("vol", await self.text("#tree"))
        await admin.suspend("vol", "b")
        site = make_site(admin, clock=reactor)
        port = reactor.listenTCP(number, site, interface="127.0.0.1")
        self.addCleanup(site.close)
        self.addCleanup(port.stopListening)
        await self.until("return document.querySelector('#banner').hidden")
        await self.until(
            "return document.querySelector(arguments[0]).innerText.includes('suspended')", row("vol", "b")
        )
        self.assertEqual("live", await self.text("#connection"))

    async def test_token(self) -> None:
        """A daemon that wants a token is given one, for everything; a wrong one is asked for again."""
        admin = FakeAdmin()
        secret, url = self.guarded(admin, Role.ADMIN)
        await self.show(url, wait_for="#login[open]")
        self.assertIn("a token or a certificate with a role is needed", await self.text("#login"))
        self.assertEqual("password", await self.browser.run("return document.querySelector('#login-token').type"))
        await self.browser.press(*"wrong", "Enter")
        await self.until(
            "const login = document.querySelector('#login');"
            "return login.open && login.innerText.includes('was not accepted: the token is unknown here')"
        )
        await self.browser.press("Escape")
        await self.until("return document.querySelector('#banner').innerText.includes('Sign in')")
        self.assertEqual("", await self.text("#tree .body"))
        await self.browser.click("#banner-act")
        await self.until("return document.querySelector('#login').open")
        await self.sign_in(secret)
        await self.until("return document.querySelector('#tiles').innerText.includes('Traffic')")
        await self.browser.open(url)  # the same tab: it is remembered
        await self.until("return document.querySelector('.row[data-key=vol]') !== null")
        self.assertNotIn(secret, await self.browser.run("return JSON.stringify(localStorage) + document.cookie"))
        await self.browser.click("#sign-out")
        await self.until("return document.querySelector('#login').open")
        self.assertEqual(None, await self.browser.run("return sessionStorage.getItem('dst-token')"))

    async def test_role(self) -> None:
        """Who may only look sees everything, and is told what role an operation takes."""
        admin = FakeAdmin()
        secret, url = self.guarded(admin, Role.VIEW)
        await self.show(url, wait_for="#login[open]")
        await self.sign_in(secret)
        await self.browser.click(row("vol", "b"))
        await self.until("return document.querySelector('.actions button') !== null")
        await self.browser.click(".actions button")
        await self.browser.click("#confirm-yes")
        await self.until("return document.querySelector('#confirm-error').innerText.includes('this takes the role')")
        self.assertIn("dst token create NAME --role operate", await self.text("#confirm-error .correction"))
        self.assertEqual([], admin.calls)

    def guarded(self, admin: FakeAdmin, role: Role) -> tuple[str, str]:
        """A token, and the address of a page for which one is needed."""
        directory = Path(self.mktemp())
        directory.mkdir()
        tokens = TokenStore(str(directory / "access" / "tokens.json"), time.time)
        secret = tokens.create("person", role)
        return secret, serve(self, admin, gate=Doorkeeper(tokens, LocalUsers(), reactor.seconds))

    async def sign_in(self, secret: str) -> None:
        await self.browser.run("document.querySelector('#login-token').value = arguments[0]", secret)
        await self.browser.press("Enter")
        await self.until("return document.querySelector('.row[data-key=vol]') !== null")


PICTURES = (
    ("overview-light-1440", "#/", 0),
    ("overview-dark-1440", "#/", 0),
    ("details-light-1440", "#/at/vol", 0),
    ("clients-light-1440", "#/clients", 0),
    ("events-dark-1440", "#/events", 0),
    ("overview-light-360", "#/", 0),
    ("tree-light-360", "#/", 760),
    ("details-dark-360", "#/at/vol", 0),
)
"""Name with theme and width, address, and how far down."""


class PicturesTests(BrowserCase):
    """Pictures for the manual, when they are asked for."""

    timeout = 400
    if not SCREENSHOTS:
        skip = "DST_SCREENSHOTS does not say where they are put"

    async def test_pictures(self) -> None:
        """What the manual shows, light and dark, wide and narrow."""
        directory = Path(SCREENSHOTS)
        await self.show(f"{serve(self, ShownAdmin())}#/at/vol", width=1440, height=900)
        await deferLater(reactor, SCREENSHOT_S)
        for name, address, down in PICTURES:
            _, theme, width = name.split("-")
            narrow = width == "360"
            await self.browser.look(width=int(width), height=780 if narrow else 900, theme=theme, mobile=narrow)
            await self.browser.run("location.hash = arguments[0]; document.activeElement.blur()", address)
            await deferLater(reactor, 1.5)
            await self.browser.run("scrollTo(0, arguments[0])", down)
            await deferLater(reactor, 0.5)
            await self.browser.screenshot(directory / f"page-{name}.png")
        await self.browser.look(width=1440, height=900, theme="light")
        await self.browser.run("location.hash = '#/at/vol/b'")
        await self.until("return document.querySelector('.why').innerText.includes('Next')")
        find = "[...document.querySelectorAll('#detail .actions button')].find((b) => b.textContent === 'Mark dirty')"
        await self.browser.run(f"{find}.click()")
        await deferLater(reactor, 0.5)
        await self.browser.screenshot(directory / "page-question-light-1440.png")
