"""A daemon's site with a cluster behind it that shows everything there is to be seen on the page."""

from __future__ import annotations

import math
import time
from typing import Any

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed

from dst.admin.site import make_site
from dst.administration import (
    Configuration,
    Event,
    ExportStatus,
    HealthFinding,
    ListenerStatus,
    OperationState,
    OperationStatus,
    SessionStatus,
    Severity,
    Traffic,
)
from dst.errors import NotFound
from dst.explaining import ResyncRecord
from dst.testing.fake_admin import FakeAdmin
from test.admin.fixture import GIB, MIB, everything

__all__ = ["NOW", "ShownAdmin", "serve"]

NOW = time.time()
"""When it is, for the cluster, at the beginning of a test."""

DOCUMENT: dict[str, object] = {
    "daemon": {"admin": "tcp:7480:interface=127.0.0.1", "state_dir": "/var/lib/dst", "name": "alpha"},
    "listeners": {"nbd": "tcp:10809:interface=127.0.0.1", "dst": {"endpoint": "tcp:7450", "tls": "required"}},
    "nodes": {
        "a": {"uri": "file:/srv/a.img?size=64G"},
        "b": {"uri": "dst://192.0.2.12:7450/b"},
        "c": {"uri": "dst://192.0.2.13:7450/c"},
    },
    "storages": {"vol": {"algorithm": "mirror", "nodes": ["a", "b", "c"]}},
    "exports": {"vol": {"device": "vol", "allow": [{"access": "write", "network": "192.0.2.0/24"}]}},
}


class ShownAdmin(FakeAdmin):
    """
    A fake with clients that read and write.

    @ivar now: its clock, seconds of the epoch.
    """

    def __init__(self, **more: Any) -> None:
        self.began = reactor.seconds()
        super().__init__(trees=everything(NOW), **more)
        self.history = [
            ResyncRecord("b", "full", "new media", "new-media", NOW - 9000, 611.0, 64 * GIB, 58 * GIB, "in-sync"),
            ResyncRecord("b", "partial", "it was absent", "stale", NOW - 5000, 9.0, 3 * GIB, GIB, "it left again"),
        ]
        self.ended: list[str] = []
        self.findings = [
            HealthFinding(
                "STORAGE_FROZEN",
                Severity.CRITICAL,
                "archive",
                "archive waits: far-b is away, and a stripe has no copy of it",
                NOW - 95,
            ),
            HealthFinding(
                "MEMBER_REFUSED",
                Severity.WARNING,
                "scratch/other",
                "other has the label of another storage",
                NOW - 7200,
            ),
            HealthFinding(
                "STORAGE_DEGRADED", Severity.WARNING, "vol", "vol has 2 of 3 copies; b is resyncing", NOW - 340
            ),
        ]
        self.journal = [
            Event(1, NOW - 90000, "daemon", Severity.INFO, "", "the daemon was started"),
            Event(
                2,
                NOW - 652,
                "health",
                Severity.WARNING,
                "vol",
                "vol has 2 of 3 copies: b is absent",
                "STORAGE_DEGRADED",
            ),
            Event(3, NOW - 652, "state", Severity.WARNING, "vol/b", "in-sync -> absent: its connection was lost"),
            Event(4, NOW - 340, "resync", Severity.INFO, "vol/b", "a partial resync of 13.0 GiB began"),
            Event(
                5,
                NOW - 95,
                "health",
                Severity.CRITICAL,
                "archive",
                "far-b is away: operations wait",
                "STORAGE_FROZEN",
            ),
            Event(6, NOW - 90, "session", Severity.INFO, "vm", "a client connected from 192.0.2.40:51234"),
            Event(
                7,
                NOW - 60,
                "health",
                Severity.INFO,
                "vm",
                "vm has its copies again",
                "STORAGE_DEGRADED",
                cleared=True,
            ),
        ]

    def now(self) -> float:
        return time.time()

    def _traffic(self, scale: float) -> Traffic:
        """Counters of a load that breathes, from its beginning until now."""
        began, now = 0.0, reactor.seconds() - self.began + 400.0

        def rose(mean: float, swing: float, period: float) -> float:
            wave = 1 - math.cos(2 * math.pi * now / period)
            return scale * (mean * (now - began) + mean * swing * period / (2 * math.pi) * wave)

        reads, writes = rose(5200, 0.4, 23), rose(1900, 0.7, 11)
        return Traffic(
            reads=int(reads),
            writes=int(writes),
            flushes=int(writes / 40),
            read_bytes=int(reads * 16384),
            written_bytes=int(writes * 8192),
            read_s=rose(5200 * 0.00017 / 64, 0.45, 23) + rose(5200 * 0.00004 / 64, 0.6, 31),
            reads_timed=int(reads / 64),
            write_s=rose(1900 * 0.00036 / 64, 0.75, 11) + rose(1900 * 0.0001 / 64, 0.6, 37),
            writes_timed=int(writes / 64),
        )

    def exports(self) -> Deferred[list[ExportStatus]]:
        nobody = Traffic()
        return succeed(
            [
                ExportStatus("archive", "archive", True, 256 * GIB, (), 0, nobody),
                ExportStatus("vm", "vm", False, 32 * GIB, None, 1, self._traffic(0.4)),
                ExportStatus(
                    "vol",
                    "vol",
                    False,
                    64 * GIB - MIB,
                    ({"access": "write", "identity": "alpha"}, {"access": "read", "network": "192.0.2.0/24"}),
                    2,
                    self._traffic(1.0),
                ),
            ]
        )

    def sessions(self) -> Deferred[list[SessionStatus]]:
        listed = [
            SessionStatus("7", "nbd", "vm", "127.0.0.1:51220", None, False, False, NOW - 7000, 4, self._traffic(0.4)),
            SessionStatus(
                "9", "nbd", "vol", "192.0.2.40:40112", "alpha", True, False, NOW - 300, 32, self._traffic(0.9)
            ),
            SessionStatus(
                "12", "dst", "vol", "192.0.2.41:55012", "backup", True, True, NOW - 20, 0, self._traffic(0.1)
            ),
        ]
        return succeed([each for each in listed if each.id not in self.ended])

    def end_session(self, id: str) -> Deferred[None]:
        self.ended.append(id)
        return succeed(None)

    def listeners(self) -> Deferred[list[ListenerStatus]]:
        return succeed(
            [
                ListenerStatus("admin", "tcp:7480:interface=127.0.0.1", "127.0.0.1:7480", "off", 1),
                ListenerStatus("dst", "tcp:7450", "0.0.0.0:7450", "required", 1),
                ListenerStatus("nbd", "tcp:10809:interface=127.0.0.1", "127.0.0.1:10809", "off", 2),
            ]
        )

    def operations(self) -> Deferred[list[OperationStatus]]:
        return succeed(
            [
                OperationStatus(
                    "2", "replace", "vol/b", OperationState.RUNNING, NOW - 340, None, "the new media is overwritten",
                    64 * GIB, 21 * GIB, "root on this machine",
                ),
                OperationStatus("1", "suspend", "vm/a", OperationState.DONE, NOW - 3600, NOW - 3598, asked_by="root"),
            ]
        )  # fmt: skip

    def operation(self, id: str) -> Deferred[OperationStatus]:
        def find(listed: list[OperationStatus]) -> OperationStatus:
            for each in listed:
                if each.id == id:
                    return each
            raise NotFound(f"there is no operation {id}")

        return self.operations().addCallback(find)

    def events(self, after: int = 0) -> Deferred[list[Event]]:
        return succeed([event for event in self.journal if event.number > after])

    def health(self) -> Deferred[list[HealthFinding]]:
        return succeed(self.findings)

    def configuration(self) -> Deferred[Configuration]:
        after = ("the listener dst is new",)
        return succeed(Configuration(DOCUMENT, "5f2c9a41", "/etc/dst/dst.toml", "", after))

    def happen(self, **more: Any) -> None:
        """One more event, now."""
        event = Event(self.journal[-1].number + 1, self.now(), "state", Severity.WARNING, "vol", "something happened")
        self.journal.append(evolve(event, **more))


def serve(case: Any, admin: FakeAdmin, **more: Any) -> str:
    """The address of a page about C{admin}, until the test ends."""
    site = make_site(admin, clock=reactor, now=getattr(admin, "now", reactor.seconds), **more)
    port = reactor.listenTCP(0, site, interface="127.0.0.1")

    async def stop() -> None:
        await port.stopListening()
        await site.close()

    case.addCleanup(stop)
    return f"http://127.0.0.1:{port.getHost().port}/"
