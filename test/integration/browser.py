"""
A real Chromium, driven over the WebDriver protocol (https://www.w3.org/TR/webdriver2/) by a client of a page.

One browser serves all tests; each test has a page of its own in it, with nothing stored from the one before.
"""

from __future__ import annotations

import atexit
import base64
import json
import os
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import treq
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent

from test.integration.cluster import free_ports

__all__ = ["KEYS", "Browser", "BrowserCase"]

T = TypeVar("T")

START_S_MAX = 60.0
"""A machine that is busy with other tests is slow."""

WAIT_S_MAX = 20.0
"""What a page has not shown after so long it does not show."""

KEYS = {
    "Escape": "\ue00c",
    "Enter": "\ue007",
    "Tab": "\ue004",
    "Space": " ",
    "ArrowUp": "\ue013",
    "ArrowDown": "\ue015",
    "ArrowLeft": "\ue012",
    "ArrowRight": "\ue014",
    "Home": "\ue011",
    "End": "\ue010",
}
"""Keys that are no character, as the protocol has them."""

_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # tests may run as root, in a container
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-features=Translate,OptimizationHints,MediaRouter",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--lang=en-GB",
)


class Browser:
    """
    A chromedriver, and the Chromium it has started.

    The processes are no business of the reactor's, so that they can outlive a test.
    """

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        self.directory = tempfile.mkdtemp(prefix="dst-browser-")
        self._session = ""
        self._process = subprocess.Popen(
            ["chromedriver", f"--port={self.port}", "--allowed-ips=127.0.0.1"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": self.directory, "TZ": "UTC", "LANGUAGE": "en_GB"},
        )

    def close(self) -> None:
        """End both."""
        if self._session:
            request = urllib.request.Request(f"http://127.0.0.1:{self.port}{self._session}", method="DELETE")
            urllib.request.urlopen(request, timeout=START_S_MAX).close()
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    async def start(self) -> None:
        """Once; afterwards there is a session."""
        if self._session:
            return
        end = reactor.seconds() + START_S_MAX
        while True:
            try:
                if (await self._ask("GET", "/status"))["ready"]:
                    break
            except Exception:
                if reactor.seconds() > end or self._process.poll() is not None:
                    raise
            await deferLater(reactor, 0.05)
        options = {"args": [*_ARGUMENTS, f"--user-data-dir={self.directory}/profile"], "binary": "/usr/bin/chromium"}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        made = await self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"/session/{made['sessionId']}"

    async def _ask(self, method: str, path: str, body: object = None) -> Any:
        answer = await treq.request(
            method,
            f"http://127.0.0.1:{self.port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
            agent=Agent(reactor),  # without a pool: nothing is left after a test
            timeout=START_S_MAX,
        )
        value = (await answer.json())["value"]
        if answer.code != 200:
            raise AssertionError(f"{value['error']}: {value['message'].splitlines()[0]}")
        return value

    async def _do(self, command: str, body: object) -> Any:
        return await self._ask("POST", f"{self._session}/{command}", body)

    async def cdp(self, command: str, **parameters: object) -> Any:
        """A command of Chromium's own protocol."""
        return await self._do("goog/cdp/execute", {"cmd": command, "params": parameters})

    # -- the page

    async def open(self, url: str) -> None:
        """Go there."""
        await self._do("url", {"url": url})

    async def run(self, script: str, *arguments: object) -> Any:
        """The result of a function's body in the page, with C{arguments}; one that is a promise is waited for."""
        return await self._do("execute/sync", {"script": script, "args": list(arguments)})

    async def press(self, *keys: str) -> None:
        """Press keys one after the other, as a person at a keyboard; each a name of L{KEYS} or a character."""
        actions = []
        for key in keys:
            value = KEYS.get(key, key)
            actions += [{"type": "keyDown", "value": value}, {"type": "keyUp", "value": value}]
        await self._do("actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    async def click(self, selector: str) -> None:
        """With the pointer, in the middle of what C{selector} finds: what lies above it is clicked instead."""
        found = await self._do("element", {"using": "css selector", "value": selector})
        (element,) = found.values()
        await self._do(f"element/{element}/click", {})

    async def look(self, *, width: int = 1280, height: int = 800, theme: str = "light", mobile: bool = False) -> None:
        """Be a window of that size on a system with that theme."""
        await self.cdp(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile
        )
        features = [
            {"name": "prefers-color-scheme", "value": theme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        await self.cdp("Emulation.setEmulatedMedia", features=features)

    async def screenshot(self, path: Path) -> None:
        """What can be seen of the page."""
        taken = await self._ask("GET", f"{self._session}/screenshot")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(taken))

    async def complaints(self) -> list[str]:
        """What the browser's console has said since it was asked last."""
        return [f"{each['level']}: {each['message']}" for each in await self._do("se/log", {"type": "browser"})]


_browser: Browser | None = None


class BrowserCase(TestCase):
    """
    Tests with a page in a real browser.

    @ivar browser: one for all tests of the process.
    """

    browser: Browser
    timeout = 120

    if shutil.which("chromedriver") is None or not os.path.exists("/usr/bin/chromium"):
        skip = "a browser is missing; it is in the Debian packages chromium and chromium-driver"

    def setUp(self) -> None:
        """The first test starts it; it ends with the process."""
        global _browser
        if _browser is None:
            _browser = Browser()
            atexit.register(_browser.close)
        self.browser = _browser

    async def show(self, url: str, *, wait_for: str = "[data-key]", **look: Any) -> None:
        """A page that nobody has looked at before, until C{wait_for} is there."""
        await self.browser.start()
        await self.browser.open("about:blank")
        await self.browser.look(**look)
        await self.browser.cdp("Storage.clearDataForOrigin", origin=url.rstrip("/"), storageTypes="all")
        await self.browser.complaints()
        await self.browser.open(url)
        self.addCleanup(self.browser.open, "about:blank")
        if wait_for:
            await self.until(f"return document.querySelector('{wait_for}') !== null")

    async def until(self, script: str, *arguments: object, wait_s: float = WAIT_S_MAX) -> Any:
        """What C{script} returns as soon as that is true."""
        end = reactor.seconds() + wait_s
        while True:
            found = await self.browser.run(script, *arguments)
            if found:
                return found
            if reactor.seconds() > end:
                text = await self.browser.run("return document.body.innerText")
                complaints = await self.browser.complaints()
                raise AssertionError(f"not after {wait_s:g} s: {script} {arguments}; the page:\n{text}\n{complaints}")
            await deferLater(reactor, 0.05)

    async def eventually(self, found: Callable[[], T | Awaitable[T]], what: str) -> T:
        """What C{found} returns as soon as that is true."""
        end = reactor.seconds() + WAIT_S_MAX
        while True:
            result = found()
            if isinstance(result, Awaitable):
                result = await result
            if result:
                return result
            self.assertLess(reactor.seconds(), end, what)
            await deferLater(reactor, 0.05)

    async def text(self, selector: str) -> str:
        """What can be read in the first element that C{selector} finds; C{""} where there is none to be seen."""
        found: str = await self.browser.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)
        return found
