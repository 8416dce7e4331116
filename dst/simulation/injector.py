"""
Who brings faults about, and ends them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from dst.errors import DSTError
from dst.simulation.checks import copies_on
from dst.simulation.faults import Fault
from dst.simulation.world import Process, World
from dst.status import Health, LinkState
from dst.testing.media import SECTOR_BYTES

if TYPE_CHECKING:
    from dst.interfaces import IAlgorithm, INode
    from dst.simulation.daemons import Daemon
    from dst.simulation.drives import Drive
    from dst.simulation.network import Network

__all__ = ["Injector"]

_SLOW_LINK_S = 0.15
_SLOW_LINK_BYTES_PER_S = 400_000.0
_SLOW_DISK = 80.0
_JUMP_S_MAX = 48 * 3600.0

End = Callable[[], None]


class Injector:
    """
    @ivar counts: how many of each kind were brought about.
    @ivar refused: how many would have destroyed what nobody promises to keep, or found nothing to befall.
    @ivar active: those that go on, with what ends each.
    """

    def __init__(self, world: World, network: Network, daemons: Mapping[str, Daemon]) -> None:
        self.world = world
        self.network = network
        self.daemons = daemons
        self.counts: dict[str, int] = {}
        self.refused: dict[str, int] = {}
        self.active: dict[int, tuple[Fault, End]] = {}
        self.said: Callable[[str], None] = lambda text: None
        self._number = 0

    def begin(self, fault: Fault) -> None:
        """It happens now."""
        try:
            end = getattr(self, "_" + fault.kind.replace("-", "_"))(fault)
        except LookupError:
            end = None
        if end is None:
            self.refused[fault.kind] = self.refused.get(fault.kind, 0) + 1
            return
        self.counts[fault.kind] = self.counts.get(fault.kind, 0) + 1
        self.said(fault.sentence())
        self.world.note("fault", fault.sentence())
        if fault.lasts_s:
            self._number += 1
            self.active[self._number] = (fault, end)
            self.world.after(fault.lasts_s, self._end, self._number)
        else:
            end()

    def _end(self, number: int) -> None:
        entry = self.active.pop(number, None)
        if entry is not None:
            fault, end = entry
            self.world.note("fault", f"over: {fault.sentence()}")
            end()

    def heal(self) -> None:
        """Everything is over now."""
        for number in list(self.active):
            self._end(number)
        for drive in self.drives().values():
            drive.bad.clear()
            drive.failing.clear()
        for daemon in self.daemons.values():
            daemon.start()

    def drives(self) -> dict[str, Drive]:
        """Every disk by its name."""
        return {
            drive.name: drive for daemon in self.daemons.values() for _, drive in sorted(daemon.host.drives.items())
        }

    # -- daemons and machines

    def _kill(self, fault: Fault) -> End | None:
        daemon = self.daemons[fault.target]
        daemon.holds += 1
        daemon.kill()
        return lambda: self._let(daemon)

    def _let(self, daemon: Daemon) -> None:
        daemon.holds -= 1
        daemon.start()

    def _stop(self, fault: Fault) -> End | None:
        daemon = self.daemons[fault.target]
        daemon.holds += 1
        daemon.stop()
        return lambda: self._let(daemon)

    def _power_cut(self, fault: Fault) -> End | None:
        daemon = self.daemons[fault.target]
        return self._dark([daemon]) if daemon.host.up else None

    def _blackout(self, fault: Fault) -> End | None:
        return self._dark([daemon for daemon in self.daemons.values() if daemon.host.up])

    def _dark(self, daemons: list[Daemon]) -> End:
        for daemon in daemons:
            daemon.lose_power()

        def light() -> None:
            # Together, or one after the other: machines take their time.
            chance = self.world.generator(f"light {self._number}")
            apart_s = chance.choice((0.0, 0.0, 2.0, 8.0))
            for daemon in daemons:
                self.world.after(chance.random() * apart_s, daemon.power_on)

        return light

    def _stall(self, fault: Fault) -> End | None:
        return self._stand(fault, sleeps=False)

    def _sleep(self, fault: Fault) -> End | None:
        return self._stand(fault, sleeps=True)

    def _stand(self, fault: Fault, *, sleeps: bool) -> End | None:
        daemon = self.daemons[fault.target]
        process: Process | None = daemon.process
        if process is None or process.standing:
            return None
        process.stand()
        begun = self.world.now

        def go_on() -> None:
            if process.alive:
                process.go_on(self.world.now - begun if sleeps else 0.0)

        return go_on

    def _clock_jump(self, fault: Fault) -> End | None:
        self.daemons[fault.target].host.wall_clock_offset_s += (2 * float(fault.detail) - 1) * _JUMP_S_MAX
        return _nothing

    # -- the network

    def _cut(self, fault: Fault) -> End | None:
        one, other = fault.target.split(" and ")
        return self._ways([(one, other), (other, one)])

    def _one_way_cut(self, fault: Fault) -> End | None:
        one, other = fault.target.split(" to ")
        return self._ways([(one, other)])

    def _isolate(self, fault: Fault) -> End | None:
        others = [name for name in self.daemons if name != fault.target]
        return self._ways([way for name in others for way in ((name, fault.target), (fault.target, name))])

    def _split(self, fault: Fault) -> End | None:
        half = fault.detail.split(" and ")
        rest = [name for name in self.daemons if name not in half]
        return self._ways([way for a in half for b in rest for way in ((a, b), (b, a))])

    def _ways(self, ways: list[tuple[str, str]]) -> End | None:
        hosts = [(self.daemons[a].host, self.daemons[b].host) for a, b in ways]
        if not hosts:
            return None
        for a, b in hosts:
            self.network.cut(a, b)

        def mend() -> None:
            for a, b in hosts:
                self.network.mend(a, b)

        return mend

    def _slow_link(self, fault: Fault) -> End | None:
        one, other = (self.daemons[name].host for name in fault.target.split(" and "))
        links = [self.network.link(one, other), self.network.link(other, one)]
        for link in links:
            link.delay_s += _SLOW_LINK_S
            link.bytes_per_s = _SLOW_LINK_BYTES_PER_S

        def fast() -> None:
            for link in links:
                link.delay_s = max(0.0, link.delay_s - _SLOW_LINK_S)
                if link.delay_s < _SLOW_LINK_S / 2:
                    link.bytes_per_s = None

        return fast

    def _reset(self, fault: Fault) -> End | None:
        return _nothing if self.network.reset_one() else None

    # -- disks

    def _drive(self, fault: Fault) -> Drive:
        return self.drives()[fault.target]

    def _disk_error(self, fault: Fault) -> End | None:
        kind, count = fault.detail.split()
        drive = self._drive(fault)
        drive.failing[kind] = drive.failing.get(kind, 0) + int(count)
        return _nothing

    def _bad_sector(self, fault: Fault) -> End | None:
        drive = self._drive(fault)
        sectors = drive.size // SECTOR_BYTES
        bad = (int(float(fault.detail) * sectors) * SECTOR_BYTES, SECTOR_BYTES)
        drive.bad.append(bad)

        def repair() -> None:
            if bad in drive.bad:
                drive.bad.remove(bad)

        return repair

    def _slow_disk(self, fault: Fault) -> End | None:
        drive = self._drive(fault)
        drive.slow *= _SLOW_DISK

        def fast() -> None:
            drive.slow /= _SLOW_DISK

        return fast

    def _disk_hang(self, fault: Fault) -> End | None:
        drive = self._drive(fault)
        drive.hang()
        return drive.go_on

    def _disk_full(self, fault: Fault) -> End | None:
        drive = self._drive(fault)
        drive.full += 1

        def room() -> None:
            drive.full -= 1

        return room

    def _disk_gone(self, fault: Fault) -> End | None:
        drive = self._drive(fault)
        drive.unplug()
        return drive.plug_in

    def _disk_replaced(self, fault: Fault) -> End | None:
        """
        Only what a storage promises to survive: one of several copies, and all the others are in sync and stay so.
        """
        drive = self._drive(fault)
        mine = [copies for copies in copies_on(self.drives().values()).values() for c in copies if c.drive is drive]
        if self.active or not mine or len(mine[0]) < 2 or not self._all_well() or drive.gone:
            return None
        if not all(copy.label.consistent for copy in mine[0]):
            return None
        drive.unplug()
        drive.replace()
        return drive.plug_in

    def _all_well(self) -> bool:
        for daemon in self.daemons.values():
            if daemon.cluster is None or not daemon.running:
                return False
            for storage in daemon.cluster.devices.storages.values():
                if storage.link is not LinkState.READY or storage.status().health is not Health.HEALTHY:
                    return False
        return True

    # -- people

    def _suspend_member(self, fault: Fault) -> End | None:
        daemon_name, storage, member = fault.target.split("/")
        daemon = self.daemons[daemon_name]
        if not self._order(daemon, storage, lambda device: device.suspend(member)):
            return None
        return lambda: self.resume(fault.target)

    def resume(self, target: str) -> None:
        """Somebody resumes what was suspended, at every daemon that may have it."""
        _, storage, member = target.split("/")
        for daemon in self.daemons.values():
            self._order(daemon, storage, lambda device: device.resume(member))

    def _mark_dirty(self, fault: Fault) -> End | None:
        daemon_name, storage, member = fault.target.split("/")
        done = self._order(self.daemons[daemon_name], storage, lambda device: device.mark_dirty(member))
        return _nothing if done else None

    def _take_over(self, fault: Fault) -> End | None:
        daemon_name, storage = fault.target.split("/")
        done = self._order(self.daemons[daemon_name], storage, lambda device: device.take_over())
        return _nothing if done else None

    def _order(self, daemon: Daemon, storage: str, order: Callable[[IAlgorithm], object]) -> bool:
        """A command that somebody types; it may be refused."""
        device: INode | None = daemon.device(storage)
        process = daemon.process
        if device is None or process is None or not daemon.running:
            return False

        def run() -> None:
            order(device).addErrback(lambda failure: failure.trap(DSTError))  # type: ignore[attr-defined, arg-type]

        process.later(0.0, run)
        return True


def _nothing() -> None:
    """It is over already."""
