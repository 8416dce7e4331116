"""The web page of real daemons, one of which is killed while somebody looks."""

from __future__ import annotations

from twisted.internet import reactor

from test.integration.browser import BrowserCase
from test.integration.cluster import MirrorOfThree, fio, verified
from test.integration.debian_tools import needs

SEEN_S_MAX = 2.0
"""So soon a person sees that a node was killed."""

# Since when the row of a node has had each word, by the browser's clock, and where its bar was: kept by the page
# itself, so that no round trip counts.
WATCH = """
window.words = {};
window.bars = [];
const note = () => {
  const badge = document.querySelector('[data-key="vol/b"] .badge');
  if (badge) window.words[badge.textContent.slice(2)] ??= Date.now() / 1000;
  const bar = document.querySelector('[data-key="vol/b"] progress');
  if (bar && bar.value / bar.max !== window.bars.at(-1)) window.bars.push(bar.value / bar.max);
};
note();
const all = { subtree: true, childList: true, characterData: true, attributes: true };
new MutationObserver(note).observe(document.querySelector('#tree'), all);
"""


@needs("fio")
class LiveTests(BrowserCase):
    """A mirror of three daemons."""

    timeout = 240

    async def test_node_is_killed_and_returns(self) -> None:
        """The page shows it within two seconds; what is copied when it is back moves a bar; then all is well."""
        cluster = MirrorOfThree(self, size="512M")
        await cluster.start()
        await self.show(cluster.admin_url, wait_for='[data-key="vol/b"]')
        await self.until("return document.querySelector('[data-key=vol]').innerText.includes('healthy')")
        await self.browser.run(WATCH)
        killed = reactor.seconds()
        await cluster.kill("b")
        seen = await self.until("return window.words.interrupted ?? window.words.away ?? window.words.absent ?? 0")
        self.assertLess(seen - killed, SEEN_S_MAX)
        await self.until(
            "return document.querySelector('[data-key=vol]').innerText.includes('degraded')", wait_s=SEEN_S_MAX
        )
        await self.until("return window.words.absent")
        self.assertIn("1 copy can be lost", await self.text('[data-key="vol"]'))
        # So much that copying it takes a while: 180 MiB could be over before the page was told of it.
        load = ("--rw=write", "--bs=256k", "--iodepth=8", "--size=480M")
        await verified(self, fio(self, cluster.uri, *load))
        await self.until("return document.querySelector('#tiles').innerText.includes('Traffic')")

        await self.browser.click('[data-key="vol/b"]')
        await cluster.admin.pause_resync("vol", "b")
        await cluster.launch("b")
        await self.until("return document.querySelector('[data-key=\"vol/b\"]').innerText.includes('waits: paused')")
        await self.browser.run("window.words = {}; window.bars = []")
        await self.operate("Resume resync")
        await self.until("return window.words['in-sync']")
        bars = await self.browser.run("return window.bars")
        self.assertGreaterEqual(len(bars), 2, f"the bar moved: {bars}")
        self.assertEqual(sorted(bars), bars)
        await self.until("return document.querySelector('[data-key=vol]').innerText.includes('healthy')")
        await self.until("return document.querySelector('#detail').innerText.includes('Resyncs that have ended')")
        self.assertIn("in-sync", await self.text("#detail .detail-line"))
        self.assertEqual(
            0, await self.browser.run("return document.querySelectorAll('[data-key=\"vol/b\"] progress').length")
        )
        await cluster.until_whole()
        self.assertEqual({}, cluster.unequal_legs())

        await self.operate("Suspend")
        await cluster.until_state("b", "suspended")
        await self.until("return document.querySelector('[data-key=\"vol/b\"]').innerText.includes('suspended')")
        await self.operate("Resume")
        await cluster.until_whole()
        await self.until("return document.querySelector('[data-key=vol]').innerText.includes('healthy')")

        await cluster.kill("owner")
        await self.until("return document.querySelector('#banner').innerText.includes('Connection lost')")
        await cluster.launch("owner")
        await self.until("return document.querySelector('#banner').hidden", wait_s=60)
        await self.until("return document.querySelector('[data-key=vol]').innerText.includes('healthy')", wait_s=60)
        await self.browser.open("about:blank")
        await cluster.stop()

    async def operate(self, label: str) -> None:
        """As a person does it."""
        find = "[...document.querySelectorAll('#detail .actions button')].find((b) => b.textContent === arguments[0])"
        await self.until(f"return {find} !== undefined && !{find}.disabled", label)
        await self.browser.run(f"{find}.click()", label)
        await self.until("return document.querySelector('#confirm').open")
        await self.browser.click("#confirm-yes")
        await self.until("return !document.querySelector('#confirm').open")
