"""The web page when there is much of everything, and the parts of it that decide, by themselves."""

from __future__ import annotations

import math
import tomllib
from typing import Any

from dst.status import Health, MemberState, ResyncProgress, StatusTree
from dst.testing.fake_admin import FakeAdmin
from test.integration.browser import BrowserCase
from test.integration.page_fixture import serve

GIB = 1 << 30

FOCUSED = "return document.activeElement.dataset.key"


class ManyTests(BrowserCase):
    """When there is much of everything."""

    async def test_thousand_storages(self) -> None:
        """A thousand storages: what is closed is not made, what is far is not drawn; one that changes is shown."""
        trees = [_storage(f"vol-{number:04}", 3) for number in range(1000)]
        admin = FakeAdmin(trees=trees)
        url = serve(self, admin)
        await self.browser.start()
        watching = await self.browser.cdp("Page.addScriptToEvaluateOnNewDocument", source=_WATCH)
        self.addCleanup(self.browser.cdp, "Page.removeScriptToEvaluateOnNewDocument", **watching)
        await self.show(url, wait_for='[data-key="vol-0999"]')
        self.assertEqual(1000, await self.browser.run("return document.querySelectorAll('.row[data-key]').length"))
        drawn = await self.browser.run(
            "const names = [...document.querySelectorAll('.group .name')];"
            "return names.filter((name) => name.checkVisibility({ contentVisibilityAuto: true })).length"
        )
        self.assertLess(drawn, 60, "only those near the window are drawn")
        admin.trees = [*trees[:500], _storage("vol-0500", 3, MemberState.ABSENT), *trees[501:]]
        await self.until("return document.querySelector('[data-show=attention]').textContent === 'Attention 1'")
        await self.browser.click("[data-show=attention]")
        await self.until("return document.querySelectorAll('.group:not([hidden]) .row').length === 1")
        self.assertIn("degraded", await self.text('[data-key="vol-0500"]'))
        await self.browser.click("[data-show=all]")
        await self.browser.press("/", *"vol-07", "Escape")
        took = await self.browser.run(_TIMED)
        print(f"\n  1,000 storages: {took}")
        self.assertEqual([], await self.browser.complaints())

    async def test_two_hundred_members(self) -> None:
        """A storage of two hundred members, opened."""
        admin = FakeAdmin(trees=[_storage("wide", 200, MemberState.RESYNCING), _storage("other", 2)])
        await self.show(serve(self, admin))
        self.assertIn("+184", await self.text('[data-key="wide"]'))
        self.assertIn(
            "199 in-sync, 1 resyncing",
            await self.browser.run("return document.querySelector('[data-key=wide] .pips').title"),
        )
        await self.browser.click('[data-key="wide"] .twist')
        await self.until("return document.querySelectorAll('.row[aria-level=\"2\"]').length === 200")
        await self.browser.run("document.querySelector('[data-key=wide]').focus()")
        await self.browser.press("End")
        self.assertEqual("wide/member-199", await self.browser.run(FOCUSED))


# What one key in the filter costs, and all of it again: milliseconds of the page's only thread.
_TIMED = """
const answer = await (await fetch('/v1/status')).text();
const filter = document.querySelector('#filter');
const began = performance.now();
filter.value = 'vol-07';
filter.dispatchEvent(new Event('input'));
document.body.offsetHeight;
const filtered = performance.now();
filter.value = '';
filter.dispatchEvent(new Event('input'));
document.body.offsetHeight;
return {
  status_kib: Math.round(answer.length / 1024),
  filter_ms: Math.round(filtered - began),
  all_again_ms: Math.round(performance.now() - filtered),
  first_s: window.seen.first / 1000,
  long_tasks_ms: window.seen.long,
};
"""

# Kept from before the page's own scripts: when the rows were there, and every stretch of 50 ms without an answer.
_WATCH = """
window.seen = { first: 0, long: [] };
new PerformanceObserver((list) => {
  for (const each of list.getEntries()) window.seen.long.push(Math.round(each.duration));
}).observe({ type: 'longtask', buffered: true });
const timer = setInterval(() => {
  if (document.querySelectorAll('.row[data-key]').length < 1000) return;
  window.seen.first = performance.now();
  clearInterval(timer);
}, 5);
"""


def _storage(name: str, members: int, last: MemberState = MemberState.IN_SYNC) -> StatusTree:
    well = last is MemberState.IN_SYNC
    resync = ResyncProgress("full", "new", 10 * GIB, 4 * GIB, GIB, 1e8) if last is MemberState.RESYNCING else None
    children = tuple(
        StatusTree(
            f"member-{number}", "remote", Health.HEALTHY, MemberState.IN_SYNC.value, size=10 * GIB, since=1.7e9
        )
        for number in range(members - 1)
    )
    final = StatusTree(
        f"member-{members - 1}",
        "remote",
        Health.HEALTHY if well else Health.FAILED,
        last.value,
        size=10 * GIB,
        resync=resync,
    )
    health = Health.HEALTHY if well else Health.DEGRADED
    return StatusTree(
        name, "mirror", health, "ready", "" if well else f"{final.name} {last.value}", 1.7e9, 10 * GIB,
        members - 1 - (not well), children=(*children, final),
    )  # fmt: skip


class ModuleTests(BrowserCase):
    """The parts of the page that decide, by themselves."""

    async def call(self, module: str, script: str, *arguments: Any) -> Any:
        """The result of a function's body in which C{m} is the module."""
        await self.show(serve(self, FakeAdmin()))
        source = f"const given = arguments; return import('/{module}').then((m) => {{ {script} }})"
        return await self.browser.run(source, *arguments)

    async def test_events_in_pieces(self) -> None:
        """Events are the same however the bytes arrive, comments are none, and lines may end in two ways."""
        text = 'retry: 1000\n\n: here\n\nid: 7\nevent: event\ndata: {"a":1}\n\n'
        text += "event: status\r\ndata: x\r\ndata:y\r\n\r\n"
        script = """
        const [text, step] = given;
        const parser = new m.EventParser();
        const found = [];
        for (let at = 0; at < text.length; at += step) found.push(...parser.push(text.slice(at, at + step)));
        return found;
        """
        expected = [{"kind": "event", "data": '{"a":1}', "id": "7"}, {"kind": "status", "data": "x\ny", "id": None}]
        for step in (1, 3, 1000):
            self.assertEqual(expected, await self.call("stream.js", script, text, step))

    async def test_traffic(self) -> None:
        """Rates are differences of counters; one that began again is a hole, and no rate."""
        script = """
        const counted = (reads, bytes) => ({ reads, read_bytes: bytes, read_s: reads / 1000, reads_timed: reads });
        const take = (time, reads, bytes) => m.takeExports(
          [{ name: 'x', device: 'd', traffic: counted(reads, bytes) }], time);
        take(100, 10, 1000); take(102, 30, 5000); take(103, 5, 100); const after = m.rateNow('d'); take(104, 6, 200);
        const kept = m.samples(['x'], 0).map((s) => [s.time, s.reads, s.read, s.readLatency]);
        return [kept, after, m.rateNow('d').read, m.rateNow('other')];
        """
        found, after, now, other = await self.call("traffic.js", script)
        self.assertEqual([102, 10, 2000], found[0][:3])
        self.assertTrue(math.isclose(0.001, found[0][3], rel_tol=1e-3))
        self.assertEqual([104, 1, 100], found[1][:3])
        self.assertEqual((None, 100, None), (after, now, other))

    async def test_words(self) -> None:
        """Numbers are said as the command says them; an axis ends at a round one."""
        script = """
        return [m.sizeInWords(0), m.sizeInWords(1536), m.sizeInWords(1024 ** 4),
                m.durationInWords(3725), m.percentInWords(9999, 10000),
                m.latencyInWords(0.00021), m.latencyInWords(1.5), m.countInWords(5432)];
        """
        self.assertEqual(
            ["0 B", "1.50 KiB", "1.00 TiB", "1 h 2 min", "99.9%", "210 µs", "1.50 s", "5.43 k"],
            await self.call("words.js", script),
        )
        script = """
        const { roundUp } = m;
        return [roundUp(0), roundUp(3), roundUp(0.00042), roundUp(3 * 1024 ** 2, 1024), roundUp(600 * 1024, 1024)];
        """
        found = await self.call("charts.js", script)
        self.assertEqual([1, 5, 5 << 20, 1000 * 1024], [found[0], found[1], found[3], found[4]])
        self.assertTrue(math.isclose(0.0005, found[2]))

    async def test_offered(self) -> None:
        """Offered is what makes sense now; what never would be done says why; a question says what is left."""
        script = """
        const member = (name, state, more = {}) => (
          { name, state, kind: 'file', members: [], detail: {}, resync: null, ...more });
        const storage = (members, more = {}) => (
          { name: 's', kind: 'mirror', state: 'ready', size: 2 ** 30, members, detail: {}, ...more });
        const split = { row: '', children: [{ row: 'diverged', children: [] }] };
        const names = (storage, member = null, more = {}) => {
          const about = { storage, member, records: [], scrubs: [], explanation: null, ...more };
          return m.offeredFor(about).map(({ name, why }) => (why === '' ? name : `(${name})`)).join(' ');
        };
        const [a, b, c] = [member('a', 'in-sync'), member('b', 'in-sync'), member('c', 'suspended')];
        const paused = member('d', 'resyncing', { resync: { stalled: 'paused by hand; it goes on' } });
        const copying = member('d', 'resyncing', { resync: { stalled: '' } });
        const running = { scrubs: [{ state: 'running' }] };
        return {
          whole: names(storage([a, b])),
          one: names(storage([a, c])),
          member: names(storage([a, b]), a),
          last: names(storage([a, c]), a),
          suspended: names(storage([a, c]), c),
          held: names(storage([a, b]), member('h', 'absent', { detail: { held_back_s: 9 } })),
          refused: names(storage([a, b]), member('r', 'refused')),
          copying: names(storage([a, copying]), copying),
          paused: names(storage([a, paused]), paused),
          scrubbing: names(storage([a, b]), null, running),
          standby: names(storage([a, b], { detail: { role: 'standby' } })),
          elsewhere: names(storage([a, c], { detail: { role: 'standby' } }), c),
          fresh: names(storage([member('x', 'refused'), member('y', 'absent')], { size: 0 })),
          exists: names(storage([member('x', 'absent')], { size: 0 }), null,
                        { explanation: { row: 'latest-data-away', children: [] } }),
          diverged: names(storage([a, b]), null, { explanation: split }),
          stripe: names(storage([a, b], { kind: 'stripe' })),
          left: m.OPERATIONS.suspend.says({ storage: storage([a, b, c]), member: a, records: [] })[1],
          pace: m.OPERATIONS['mark-dirty'].says({
            storage: storage([a, b, c]), member: c, records: [{ bytes_copied: 2 ** 20, seconds: 1 }] })[2],
        };
        """
        self.assertEqual(
            {
                "whole": "grow scrub",
                "one": "grow (scrub)",
                "member": "suspend mark-dirty replace",
                "last": "(suspend) (mark-dirty) (replace)",
                "suspended": "resume mark-dirty mark-clean replace",
                "held": "suspend resume mark-dirty mark-clean replace",
                "refused": "mark-clean replace",
                "copying": "suspend pause-resync mark-dirty mark-clean replace",
                "paused": "suspend resume-resync mark-dirty mark-clean replace",
                "scrubbing": "grow stop-scrub",
                "standby": "take-over",
                "elsewhere": "",
                "fresh": "initialise",
                "exists": "",
                "diverged": "grow scrub resolve",
                "stripe": "grow",
                "left": "s goes on with 1 copy: then no other copy can be lost without losing data.",
                "pace": "All 1.00 GiB are copied to it from the others; "
                "as fast as the last time that takes 17 min 4 s.",
            },
            await self.call("operations.js", script),
        )

    async def test_toml(self) -> None:
        """A configuration is written as the file that means it."""
        document = {
            "daemon": {"name": 'a "b"'},
            "nodes": {"a b": {"uri": "memory:", "n": 1, "on": True}},
            "hooks": [{"on": ["health"]}],
        }
        script = "return m.tomlOf(given[0]).join('\\n')"
        found = await self.call("configuration.js", script, document)
        self.assertEqual(document, tomllib.loads(found))
