"""
One mirror, its disks, its owner that crashes, its clients, and what they may see: all on one virtual clock.

The checker knows nothing of how the mirror works. For every sector it keeps the
versions that a read may return now, and those that it may return after the
storage has said that unflushed writes may be lost. Media is judged by
reading labels and tables from the bytes themselves.
"""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from dst.algorithms.mirror import Mirror, MirrorOptions
from dst.label.format import Label, decode_slot, encode_slot, find_label
from dst.label.region_table import RegionTable
from dst.label.zone import LABELS_BYTES, PAGE_BYTES, Zone, label_offset
from dst.status import LinkState, MemberState
from dst.testing.disk import SimulatedDisk
from dst.testing.faulty import FaultyDevice
from dst.testing.media import SECTOR_BYTES, SimulatedMedia
from test.scenarios.checker import Wrong, fill, versions_in
from test.scenarios.clients import write_data
from test.scenarios.invariant import check_invariant

__all__ = ["REGION_BYTES", "MemoryRecordStore", "Wrong", "World"]

REGION_BYTES = 64 * 1024
MEDIA_BYTES = 6 * REGION_BYTES + LABELS_BYTES + 2 * PAGE_BYTES
STEP_S = 0.002


_graves: list[object] = []
"""
Owners that were killed. A killed process runs nothing any more; objects that are collected do: their
coroutines are closed, which lets go of extents, which starts operations. So they are kept.
"""


class MemoryRecordStore:
    """The owner's own record; survives the owner as its state directory does."""

    def __init__(self) -> None:
        self.kept: bytes | None = None

    def load(self) -> Deferred[Label | None]:
        """What was stored last."""
        return succeed(None if self.kept is None else decode_slot(self.kept))

    def store(self, label: Label) -> Deferred[None]:
        """Keep it, as bytes."""
        self.kept = encode_slot(label)
        return succeed(None)

    def owner(self) -> Deferred[bytes | None]:
        """Who the owner is, for as long as this is not lost."""
        return succeed(b"the only owner..")


class World:
    """
    @ivar mirror: the storage, C{None} while its owner is down.
    @ivar nodes: the members' nodes as the present owner has them.
    """

    def __init__(self, members: int, seed: int = 0, **options: Any) -> None:
        self.random = random.Random(seed)
        self.media = [SimulatedMedia(MEDIA_BYTES, seed=seed * 31 + n) for n in range(members)]
        self.entropy = random.Random(~seed)
        self.store = MemoryRecordStore()
        self.options = MirrorOptions(
            **{"region_size": REGION_BYTES, "hot_regions": 3, "start_wait_s": 0.5, "grace_s": 1.0, "flap_hold_s": 0.0}
            | options
        )
        self.plugged = [True] * members
        self.mirror: Mirror | None = None
        self.nodes: list[FaultyDevice] = []
        self.clock = Clock()
        self.legal: dict[int, set[int]] = {}
        self.durable: dict[int, set[int]] = {}
        self.in_flight: dict[int, int] = {}
        self.flushes: dict[int, dict[int, set[int]]] = {}
        self.version = 0
        self.incarnation = b""
        self.said: list[str] = []
        self.delay_s = 0.0

    # -- the owner

    def start_owner(self) -> None:
        """A new process on the same media."""
        assert self.mirror is None
        self.clock = Clock()
        self.nodes = []
        for n, media in enumerate(self.media):
            node = FaultyDevice(self.clock, SimulatedDisk(self.clock, f"n{n}", media), delay_s=self.delay_s)
            if not self.plugged[n]:
                node.pull()
            self.nodes.append(node)
        self.mirror = Mirror(self.clock, "vol", self.nodes, self.options, self.store, entropy=self.entropy.randbytes)
        self.mirror.observe(self._told)
        self.opened: list[object] = []
        self.mirror.open().addBoth(self.opened.append)

    def _told(self, mirror: object) -> None:
        """Sessions are cut when the storage's incarnation changes: unflushed writes may be lost then."""
        if mirror is not self.mirror:
            return  # one whose owner was killed
        assert self.mirror is not None
        now = self.mirror.incarnation
        if self.incarnation and now and now != self.incarnation:
            for sector, versions in self.durable.items():
                self.legal[sector] = self.legal[sector] | versions
            self.said.append("incarnation changed")
        self.incarnation = now or self.incarnation

    def crash_owner(self) -> None:
        """SIGKILL: nothing of it runs any more. What it has sent may be executed, or not."""
        for node in self.nodes:
            for request in list(node._running) + list(node._held):
                if self.random.random() < 0.5 and request.operation.kind in (
                    "write",
                    "trim",
                    "write_zeroes",
                    "flush",
                ):
                    request.run().addErrback(lambda _: None)
            node.link = node.inner.link = LinkState.CLOSED  # type: ignore[attr-defined]
            node.inner.media = SimulatedMedia(0)  # type: ignore[attr-defined]
        _graves.append((self.mirror, self.nodes))
        self.mirror = None
        self.nodes = []
        self.clock = Clock()
        self.in_flight.clear()
        self.flushes.clear()

    def end(self) -> None:
        """The test is over: what still waits is not let go by the collector of garbage."""
        if self.mirror is not None:
            self.crash_owner()

    def stop_owner(self) -> None:
        """An orderly stop."""
        assert self.mirror is not None
        self.wait_for(self.mirror.close())
        self.mirror = None
        self.nodes = []
        self.in_flight.clear()
        self.flushes.clear()

    # -- time

    def advance(self, seconds: float) -> None:
        """Let time pass in small steps."""
        for _ in range(max(1, round(seconds / STEP_S))):
            self.clock.advance(STEP_S)

    def wait_for(self, done: Deferred[Any], seconds: float = 60.0) -> Any:
        """What C{done} fires with."""
        results: list[Any] = []
        done.addBoth(results.append)
        left = seconds
        while not results and left > 0:
            self.clock.advance(STEP_S)
            left -= STEP_S
        if not results:
            raise Wrong(f"nothing was answered in {seconds} s: {self.describe()}")
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]

    def until(self, what: str, condition: Any, seconds: float = 120.0) -> None:
        """Advance until C{condition()}."""
        left = seconds
        while not condition():
            if left <= 0:
                raise Wrong(f"not {what} after {seconds} s: {self.describe()}")
            self.clock.advance(STEP_S)
            left -= STEP_S

    # -- clients

    def write(self, sector: int, count: int, *, fua: bool = False, change: str = "write") -> Deferred[bool] | None:
        """
        A client's write of some sectors; C{None} when another write of them is under way.

        Fires with whether it was acknowledged.
        """
        mirror = self.mirror
        if mirror is not None:
            self._told(mirror)
        fua = fua and change != "trim"  # a trim cannot be asked to be durable
        sectors = range(sector, sector + count)
        if mirror is None or any(each in self.in_flight for each in sectors):
            return None
        if change == "write":
            self.version += 1
        version = self.version if change == "write" else 0
        for each in sectors:
            self.in_flight[each] = version
            self.legal.setdefault(each, {0}).add(version)
            self.durable.setdefault(each, {0}).add(version)
            for snapshot in self.flushes.values():
                snapshot.setdefault(each, {0}).add(version)
        offset, length = sector * SECTOR_BYTES, count * SECTOR_BYTES
        if change == "write":
            done = write_data(mirror, offset, fill(version, count), version, fua=fua)
        elif change == "trim":
            done = mirror.trim(offset, length)
        else:
            done = mirror.write_zeroes(offset, length, fua=fua)

        def ended(result: object) -> bool:
            if mirror is not self.mirror:
                return False
            good = not isinstance(result, Failure)
            for each in sectors:
                del self.in_flight[each]
                if good:
                    self.legal[each] = {version}
                    if fua:
                        self.durable[each] = {version}
            return good

        return done.addBoth(ended)

    def read(self, sector: int, count: int) -> Deferred[bool] | None:
        """A client's read, judged. Fires with whether it was answered."""
        mirror = self.mirror
        if mirror is None:
            return None
        self._told(mirror)  # a session knows the incarnation that it was opened with
        before = {each: set(self.legal.get(each, {0})) for each in range(sector, sector + count)}
        done = mirror.read(sector * SECTOR_BYTES, count * SECTOR_BYTES)

        def ended(result: Any) -> bool:
            if mirror is not self.mirror or isinstance(result, Failure):
                return False
            for each, version in enumerate(versions_in(bytes(result)), sector):
                may = before[each] | self.legal.get(each, {0})
                if version not in may:
                    raise Wrong(f"sector {each} reads version {version}, it may be {sorted(may)}: {self.describe()}")
                now = self.legal.get(each)
                if now is not None and version in now:
                    # What was read once stays, unless a write is under way.
                    self.legal[each] = {version} | ({self.in_flight[each]} if each in self.in_flight else set())
            return True

        return done.addBoth(ended)

    def flush(self) -> Deferred[bool] | None:
        """A client's flush."""
        mirror = self.mirror
        if mirror is None:
            return None
        snapshot = {each: set(versions) for each, versions in self.legal.items()}
        self.flushes[id(snapshot)] = snapshot

        def ended(result: object) -> bool:
            if mirror is not self.mirror:
                return False
            del self.flushes[id(snapshot)]
            if isinstance(result, Failure):
                return False
            for each, versions in snapshot.items():
                self.durable[each] = versions | ({self.in_flight[each]} if each in self.in_flight else set())
            return True

        return mirror.flush().addBoth(ended)

    # -- what must hold

    @property
    def data_sectors(self) -> int:
        """Size of the storage in sectors."""
        return Zone.at_end_of(MEDIA_BYTES, REGION_BYTES).capacity // PAGE_BYTES * PAGE_BYTES // SECTOR_BYTES

    def table_of(self, media: SimulatedMedia) -> tuple[Label, RegionTable] | None:
        """What a member's media says, as the storage would read it."""
        label = find_label(media.read(label_offset(media.size), LABELS_BYTES)).label
        if label is None:
            return None
        zone = Zone.at_end_of(label.media_size, label.region_size)
        table = RegionTable(zone.regions_of(label.data_size), label.storage_id)
        for page in range(table.pages):
            table.load_page(page, [media.read(zone.page_offset(page, slot), PAGE_BYTES) for slot in (0, 1)])
        return label, table

    def check_invariant(self) -> None:
        """See L{test.scenarios.invariant}."""
        check_invariant(self.media, self.describe)

    def describe(self) -> str:
        """For the message of a failure."""
        if self.mirror is None:
            return "the owner is down"
        tree = self.mirror.status()
        members = ", ".join(f"{each.name} {each.state} ({each.reason})" for each in tree.children)
        return f"{tree.health.value} {tree.state} {tree.reason!r} {tree.detail} [{members}]"

    @property
    def in_sync(self) -> list[int]:
        """Members that are in sync now."""
        if self.mirror is None:
            return []
        serving = self.mirror.serving
        if serving is None:
            return []
        return [m.index for m in self.mirror.members if serving.configuration.in_sync & m.bit]

    def heal(self) -> None:
        """No more faults: everything is plugged in, with what it lost, and goes on."""
        self.plugged = [True] * len(self.media)
        if self.mirror is None:
            self.start_owner()
        for node in self.nodes:
            node.heal()
            node.delay_s = 0.0
            node.release()
            if node.link in (LinkState.AWAY, LinkState.INTERRUPTED):
                node.plug_in()

    def check_convergence(self) -> None:
        """After healing: every member in sync, everything answered, copies equal, all reads right."""
        self.heal()

        def whole() -> bool:
            assert self.mirror is not None
            children = self.mirror.status().children
            return self.mirror.link is LinkState.READY and all(
                child.state == MemberState.IN_SYNC.value for child in children
            )

        self.until("in sync", whole)
        self.until("answered", lambda: not self.in_flight and not self.flushes)
        for sector in range(0, self.data_sectors, 64):
            done = self.read(sector, min(64, self.data_sectors - sector))
            assert done is not None
            if not self.wait_for(done):
                raise Wrong(f"a read fails in a healthy storage: {self.describe()}")
        assert self.mirror is not None
        self.until("reconciled", lambda: not self.mirror.serving.hot.unreconciled)  # type: ignore[union-attr]
        size = self.data_sectors * SECTOR_BYTES
        contents = {media.read(0, size) for media in self.media}
        if len(contents) != 1:
            raise Wrong(f"{len(contents)} different copies in a healthy storage: {self.describe()}")
        self.check_invariant()
