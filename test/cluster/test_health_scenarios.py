"""
Every health code, raised and cleared: by real storages on simulated disks, and by facts about a daemon.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import fail
from twisted.internet.task import Clock

from dst.administration import ListenerStatus
from dst.algorithms.mirror import Mirror
from dst.errors import MediaError, NoSpace
from dst.health import CODES, CertificateFacts, DaemonFacts
from dst.status import LinkState, MemberState
from dst.testing.faulty import faulty_disk
from test.algorithms.owners import Owners
from test.algorithms.test_diverged import SplitCase
from test.algorithms.test_mirror import MirrorCase
from test.algorithms.test_scrub import AT, SECTORS
from test.cluster.watching import EPOCH_S, Watched
from test.scenarios.test_named_traces import TraceCase
from test.scenarios.world import MEDIA_BYTES, MemoryRecordStore, World

DAY_S = 86400.0


class Scenario(MirrorCase):
    """What raises a code, and what ends it."""

    def watch(self, world: Any, *mirrors: Mirror) -> Watched:
        """A watch over the world's storage, ended with the test."""
        watched = Watched(world.clock, mirrors or [world.mirror])
        self.addCleanup(watched.watch.stop)
        return watched

    def raised(self, watched: Watched, world: Any, code: str, subject: str) -> str:
        """It comes in time, is about that, and the sentence is one. @return: the sentence."""
        came = watched.until(lambda: code in watched.codes(), world.advance)
        self.assertTrue(came, f"{code} was not raised; there are {watched.watch.findings()}")
        self.assertEqual(subject, watched.codes()[code])
        return next(each.sentence for each in watched.watch.findings() if each.code == code)

    def cleared(self, watched: Watched, world: Any, code: str, seconds: float = 120.0) -> None:
        """It ends in time, and was told once in each direction."""
        over = watched.until(lambda: code not in watched.codes(), world.advance, seconds)
        self.assertTrue(over, f"{code} is still there: {watched.watch.findings()}")
        self.assertEqual([True, False], watched.told(code))

    def mirror(self, world: World) -> Mirror:
        """The storage, which is there."""
        assert world.mirror is not None
        return world.mirror


class ServiceTests(Scenario):
    """What users of the disk notice."""

    def test_storage_failed(self) -> None:
        """STORAGE_FAILED: all copies are away, and the storage was told not to wait."""
        world = self.served(2, on_loss="error")
        watched = self.watch(world)
        self.assertEqual({}, watched.codes())
        for node in world.nodes:
            node.pull()
        sentence = self.raised(watched, world, "STORAGE_FAILED", "vol")
        self.assertIn("vol is failed", sentence)
        for node in world.nodes:
            node.plug_in()
        self.cleared(watched, world, "STORAGE_FAILED")

    def test_storage_frozen(self) -> None:
        """STORAGE_FROZEN: at the start nobody can be read yet."""
        world = self.served(2)
        world.stop_owner()
        world.plugged = [False, False]
        world.start_owner()
        watched = self.watch(world)
        self.raised(watched, world, "STORAGE_FROZEN", "vol")
        for node in world.nodes:
            node.plug_in()
        self.cleared(watched, world, "STORAGE_FROZEN")

    def test_latest_data_away(self) -> None:
        """LATEST_DATA_AWAY: the only copy with the latest writes is gone, and so is the machine that knew better."""
        world = self.served(2, freeze_s=0.0)
        watched = self.watch(world)
        world.nodes[1].pull()
        world.advance(5)
        self.write(world, 0)
        world.nodes[0].pull()
        self.assertIn("n0", self.raised(watched, world, "LATEST_DATA_AWAY", "vol"))
        world.nodes[1].plug_in()  # an older copy does not help
        world.advance(30)
        self.assertIn("LATEST_DATA_AWAY", watched.codes())
        world.nodes[0].plug_in()
        self.cleared(watched, world, "LATEST_DATA_AWAY")

    def test_copies_too_few(self) -> None:
        """COPIES_TOO_FEW: changes are to have two copies, and there is one."""
        world = self.served(2, minimum_copies=2)
        watched = self.watch(world)
        world.nodes[1].pull()
        self.raised(watched, world, "COPIES_TOO_FEW", "vol")
        world.nodes[1].plug_in()
        self.cleared(watched, world, "COPIES_TOO_FEW")

    def test_storage_degraded(self) -> None:
        """STORAGE_DEGRADED: one of three copies is away."""
        world = self.served(3)
        watched = self.watch(world)
        world.nodes[1].pull()
        self.assertIn("n1", self.raised(watched, world, "STORAGE_DEGRADED", "vol"))
        world.advance(30)
        self.assertNotIn("LAST_COPY", watched.codes())
        world.nodes[1].plug_in()
        self.cleared(watched, world, "STORAGE_DEGRADED")

    def test_last_copy(self) -> None:
        """LAST_COPY: two of three copies are away."""
        world = self.served(3)
        watched = self.watch(world)
        world.nodes[1].pull()
        world.nodes[2].pull()
        self.assertIn("one copy left, on n0", self.raised(watched, world, "LAST_COPY", "vol"))
        world.nodes[1].plug_in()
        self.cleared(watched, world, "LAST_COPY")
        self.assertIn("STORAGE_DEGRADED", watched.codes())


class StartTests(Scenario):
    """Storages that do not start."""

    def test_storage_not_initialised(self) -> None:
        """STORAGE_NOT_INITIALISED: a new storage would overwrite what is on a member."""
        world = self.world(2)
        world.media[1].write(100_000, b"somebody's data")
        world.start_owner()
        watched = self.watch(world)
        self.assertIn("dst init", self.raised(watched, world, "STORAGE_NOT_INITIALISED", "vol"))
        world.wait_for(self.mirror(world).initialise("n1"))
        self.cleared(watched, world, "STORAGE_NOT_INITIALISED")

    def test_media_mixed_up(self) -> None:
        """MEDIA_MIXED_UP: one of the disks is another storage's."""
        other = self.served(2, seed=7)
        other.stop_owner()
        world = self.served(2)
        world.stop_owner()
        own = world.media[1]
        world.media[1] = other.media[1]
        world.store = MemoryRecordStore()
        world.start_owner()
        watched = self.watch(world)
        self.assertIn("different storages", self.raised(watched, world, "MEDIA_MIXED_UP", "vol"))
        world.nodes[1].pull()
        world.nodes[1].inner.media = own  # type: ignore[attr-defined]
        world.advance(1)
        world.nodes[1].plug_in(new_incarnation=True)
        self.cleared(watched, world, "MEDIA_MIXED_UP")

    def test_owner_record_lost(self) -> None:
        """OWNER_RECORD_LOST: the state directory is new, and a member that may know more is away."""
        world = self.served(2)
        world.stop_owner()
        world.store = MemoryRecordStore()
        world.plugged[1] = False
        world.start_owner()
        watched = self.watch(world)
        self.assertIn("n1", self.raised(watched, world, "OWNER_RECORD_LOST", "vol"))
        world.nodes[1].plug_in()
        self.cleared(watched, world, "OWNER_RECORD_LOST")

    def test_record_not_kept(self) -> None:
        """RECORD_NOT_KEPT: the state directory is full when a member leaves."""
        world = self.served(2)
        watched = self.watch(world)
        store = world.store.store
        world.store.store = lambda label: fail(NoSpace("no room"))  # type: ignore[method-assign]
        world.nodes[1].pull()
        self.assertIn("no room", self.raised(watched, world, "RECORD_NOT_KEPT", "vol"))
        world.store.store = store  # type: ignore[method-assign]
        self.cleared(watched, world, "RECORD_NOT_KEPT")


class OwnershipTests(Scenario):
    """Votes and witnesses."""

    def owners(self, *arguments: Any, **options: Any) -> tuple[Owners, Mirror]:
        world = Owners(*arguments, **options)
        mirror = world.start(0)
        self.addCleanup(lambda: world.mirrors[0] is not None and world.kill(0))
        for _ in range(100):
            world.advance(0.2)
            if mirror.link is LinkState.READY:
                break
        world.advance(3)
        return world, mirror

    def test_quorum_lost(self) -> None:
        """QUORUM_LOST: a member and the witness cannot be reached, and another daemon may have them."""
        world, mirror = self.owners(2, 1)
        watched = self.watch(world, mirror)
        world.cut(0, 1, 2)
        self.assertIn("no quorum", self.raised(watched, world, "QUORUM_LOST", "vol"))
        world.mend(0)
        self.cleared(watched, world, "QUORUM_LOST")

    def test_quorum_at_risk(self) -> None:
        """QUORUM_AT_RISK and WITNESS_AWAY: two of three votes are left, and two are needed."""
        world, mirror = self.owners(2, 1)
        watched = self.watch(world, mirror)
        world.advance(20)
        self.assertEqual({}, watched.codes())
        world.cut(0, 2)
        self.assertIn("missing: n2", self.raised(watched, world, "QUORUM_AT_RISK", "vol"))
        self.raised(watched, world, "WITNESS_AWAY", "vol/n2")
        world.mend(0)
        self.cleared(watched, world, "QUORUM_AT_RISK")
        self.cleared(watched, world, "WITNESS_AWAY")

    def test_not_protected_by_witness(self) -> None:
        """NOT_PROTECTED_BY_WITNESS: the owner's own directory breaks the tie, until it is a witness that does."""
        world, mirror = self.owners(2, 0)
        watched = self.watch(world, mirror)
        self.raised(watched, world, "NOT_PROTECTED_BY_WITNESS", "vol")
        protected, other = self.owners(2, 1)
        watched.devices = [other]

        class Both:
            """Two worlds go on together."""

            @staticmethod
            def advance(seconds: float) -> None:
                protected.advance(seconds)
                world.advance(seconds)

        self.cleared(watched, Both, "NOT_PROTECTED_BY_WITNESS")

    def test_a_standby_is_fine(self) -> None:
        """A daemon that stands by while the owner serves has nothing to complain of: it asks for no copies."""
        world, _ = self.owners(2, 1)
        standby = world.start(1)
        self.addCleanup(world.kill, 1)
        watched = self.watch(world, standby)
        world.advance(40)
        self.assertEqual({}, watched.codes())
        world.cut(1, 0)
        self.raised(watched, world, "MEMBER_AWAY", "vol/n0")
        world.mend(1)
        self.cleared(watched, world, "MEMBER_AWAY")


class HistoryTests(SplitCase, Scenario):
    """Two histories."""

    def test_storage_diverged(self) -> None:
        """STORAGE_DIVERGED: another history comes back, until a person has chosen."""
        world, left = self.refused()
        watched = self.watch(world, left)
        self.assertIn("n1", self.raised(watched, world, "STORAGE_DIVERGED", "vol"))
        self.assertIsNone(world.result(left.resolve("n0")))
        self.cleared(watched, world, "STORAGE_DIVERGED")


class ScrubTests(Scenario):
    """What a comparison of the copies has found."""

    def scrub(self, world: World) -> None:
        self.successResultOf(self.mirror(world).scrub())
        world.until("scrubbed", lambda: self.mirror(world).scrubs()[-1].state == "done")

    def test_copies_differ(self) -> None:
        """COPIES_DIFFER: two copies are not the same, and nobody can tell which is right."""
        world = self.served(2)
        self.write(world, 0, 3 * SECTORS)
        world.media[1].write(AT, b"\xee" * 512, fua=True)
        watched = self.watch(world)
        self.scrub(world)
        self.assertIn("4096 bytes", self.raised(watched, world, "COPIES_DIFFER", "vol"))
        self.successResultOf(self.mirror(world).mark_dirty("n1"))
        self.until_in_sync(world)
        self.scrub(world)
        self.cleared(watched, world, "COPIES_DIFFER")

    def test_data_unreadable(self) -> None:
        """DATA_UNREADABLE: no copy can read a place, until something is written there."""
        world = self.served(2)
        self.write(world, 0, 3 * SECTORS)
        watched = self.watch(world)
        for node in world.nodes:
            node.fail_next("read checksums", MediaError("a bad sector"), extent=(AT, 4096), times=None)
        self.scrub(world)
        self.raised(watched, world, "DATA_UNREADABLE", "vol")
        for node in world.nodes:
            node.heal()  # as a disk does where it is written to
        self.write(world, AT // 512, 8)
        self.scrub(world)
        self.cleared(watched, world, "DATA_UNREADABLE")


class MemberTests(TraceCase, Scenario):
    """Members."""

    def test_member_away(self) -> None:
        """MEMBER_AWAY: its cable was pulled."""
        world = self.served(2)
        watched = self.watch(world)
        world.nodes[1].pull()
        self.assertIn("its cable was pulled", self.raised(watched, world, "MEMBER_AWAY", "vol/n1"))
        world.nodes[1].plug_in()
        self.cleared(watched, world, "MEMBER_AWAY")

    def test_member_refused(self) -> None:
        """MEMBER_REFUSED: the disk of another storage stands at its place."""
        other = Scenario.served(self, 2, seed=7)
        other.stop_owner()
        world = self.served(2)
        watched = self.watch(world)
        own = world.media[1]
        world.nodes[1].pull()
        world.advance(3)
        world.nodes[1].inner.media = other.media[1]  # type: ignore[attr-defined]
        world.nodes[1].plug_in(new_incarnation=True)
        self.assertIn("another storage", self.raised(watched, world, "MEMBER_REFUSED", "vol/n1"))
        world.nodes[1].pull()
        world.advance(1)
        world.nodes[1].inner.media = own  # type: ignore[attr-defined]
        world.nodes[1].plug_in(new_incarnation=True)
        self.cleared(watched, world, "MEMBER_REFUSED")

    def test_media_coarser(self) -> None:
        """MEDIA_COARSER: the disk that came back has larger blocks."""
        world = self.served(2)
        self.write(0)
        watched = self.watch(world)
        inner: Any = world.nodes[1].inner
        fine = inner._geometry
        self.drop(1)
        inner._geometry = fine.evolve(block_size=4096)
        self.back(1)
        self.raised(watched, world, "MEDIA_COARSER", "vol/n1")
        self.assertNotIn("MEMBER_REFUSED", watched.codes())
        self.drop(1)
        inner._geometry = fine
        self.back(1)
        self.cleared(watched, world, "MEDIA_COARSER")

    def test_member_suspended(self) -> None:
        """MEMBER_SUSPENDED: a person said so."""
        world = self.served(2)
        watched = self.watch(world)
        world.wait_for(self.mirror(world).suspend("n1"))
        self.raised(watched, world, "MEMBER_SUSPENDED", "vol/n1")
        world.wait_for(self.mirror(world).resume("n1"))
        self.cleared(watched, world, "MEMBER_SUSPENDED")

    def test_member_slow(self) -> None:
        """MEMBER_SLOW: it does not answer a write that the other one has answered."""
        world = self.served(2, flap_hold_s=1.0)
        self.write(0)
        watched = self.watch(world)
        world.nodes[1].hold("write")
        self.write(0)
        self.raised(watched, world, "MEMBER_SLOW", "vol/n1")
        self.assertNotIn("MEMBER_AWAY", watched.codes())
        world.nodes[1].release()
        self.cleared(watched, world, "MEMBER_SLOW")

    def test_member_flapping(self) -> None:
        """MEMBER_FLAPPING: it left three times; ten quiet minutes later that is forgotten."""
        world = self.served(2, flap_hold_s=10.0)
        watched = self.watch(world)
        for _ in range(3):
            self.drop(1)
            world.advance(0.5)
            self.back(1)
            world.advance(0.5)
        self.assertIn("left 3 times", self.raised(watched, world, "MEMBER_FLAPPING", "vol/n1"))
        self.cleared(watched, world, "MEMBER_FLAPPING", 900.0)

    def test_resync_stalled(self) -> None:
        """RESYNC_STALLED: the member that is copied to does not answer."""
        world = self.served(2, slow_s=0.0)
        watched = self.watch(world)
        self.drop(1)
        self.write(0)
        world.wait_for(self.mirror(world).pause_resync("n1"))
        self.back(1)
        world.until("resyncing", lambda: self.state(1).state == MemberState.RESYNCING.value)
        world.nodes[1].hold("write write_zeroes")
        world.wait_for(self.mirror(world).resume_resync("n1"))
        self.raised(watched, world, "RESYNC_STALLED", "vol/n1")
        world.nodes[1].release()
        self.cleared(watched, world, "RESYNC_STALLED")

    def test_resync_paused(self) -> None:
        """RESYNC_PAUSED: a person said so, and says so no more."""
        world = self.served(2)
        watched = self.watch(world)
        self.drop(1)
        self.write(0)
        world.wait_for(self.mirror(world).pause_resync("n1"))
        self.back(1)
        self.raised(watched, world, "RESYNC_PAUSED", "vol/n1")
        self.assertNotIn("RESYNC_STALLED", watched.codes())
        world.wait_for(self.mirror(world).resume_resync("n1"))
        self.cleared(watched, world, "RESYNC_PAUSED")
        self.assertEqual(MemberState.IN_SYNC.value, self.state(1).state)


class DaemonTests(Scenario):
    """The daemon itself, and nodes that stand alone."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.watched = Watched(self.clock)
        self.addCleanup(self.watched.watch.stop)
        self.advance(3)

    def advance(self, seconds: float) -> None:
        for _ in range(max(1, round(seconds / 0.25))):
            self.clock.advance(0.25)

    def facts(self, code: str, subject: str, bad: DaemonFacts, good: DaemonFacts | None = None) -> str:
        """With one it is raised, with the other cleared."""
        self.watched.facts = bad
        sentence = self.raised(self.watched, self, code, subject)
        self.watched.facts = good or DaemonFacts()
        self.cleared(self.watched, self, code, 700.0)
        return sentence

    def test_node_away(self) -> None:
        """NODE_AWAY: a node that is exported by itself."""
        node = faulty_disk(self.clock, "spare", MEDIA_BYTES)
        node.open()
        self.watched.devices = [node]
        self.advance(20)
        self.assertEqual({}, self.watched.codes())
        node.pull()
        self.assertIn("cable", self.raised(self.watched, self, "NODE_AWAY", "spare"))
        node.plug_in()
        self.cleared(self.watched, self, "NODE_AWAY")

    def test_certificate_expires(self) -> None:
        """CERTIFICATE_EXPIRES: ten days are left of a year; and nothing is said of one that was made for a day."""
        certificate = CertificateFacts("of alpha", EPOCH_S - 355 * DAY_S, EPOCH_S + 10 * DAY_S)
        short = CertificateFacts("of beta", EPOCH_S, EPOCH_S + DAY_S)
        renewed = evolve(certificate, ends=EPOCH_S + 300 * DAY_S)
        sentence = self.facts(
            "CERTIFICATE_EXPIRES",
            "of alpha",
            DaemonFacts(certificates=(certificate, short)),
            DaemonFacts(certificates=(renewed, short)),
        )
        self.assertIn("the certificate of alpha expires in", sentence)

    def test_certificate_expired(self) -> None:
        """CERTIFICATE_EXPIRED: since yesterday."""
        certificate = CertificateFacts("of alpha", EPOCH_S - 365 * DAY_S, EPOCH_S - DAY_S)
        self.facts("CERTIFICATE_EXPIRED", "of alpha", DaemonFacts(certificates=(certificate,)))

    def test_certificates_not_used(self) -> None:
        """CERTIFICATES_NOT_USED: a renewal stopped half way."""
        bad = DaemonFacts(certificates_unused="the key is not that of the certificate")
        self.assertIn("the key", self.facts("CERTIFICATES_NOT_USED", "", bad))

    def test_open_to_the_network(self) -> None:
        """OPEN_TO_THE_NETWORK: of all that is beyond this machine and does not require TLS, and nothing else."""
        addresses = ("127.0.0.1:1", "[::1]:1", "/run/dst.sock", "nbd.sock", "0.0.0.0:1", "[::]:2", "10.0.0.1:3")
        every = tuple(ListenerStatus("nbd", "tcp:...", address, "off") for address in addresses)
        secured = ListenerStatus("dst", "tcp:...", "10.0.0.1:4", "required")
        self.watched.facts = DaemonFacts(listeners=(*every, secured))
        self.advance(11)
        found = {finding.subject for finding in self.watched.watch.findings()}
        self.assertEqual({"nbd 0.0.0.0:1", "nbd [::]:2", "nbd 10.0.0.1:3"}, found)
        self.watched.facts = DaemonFacts()
        self.advance(11)
        optional = ListenerStatus("nbd", "tcp:...", "10.0.0.1:3", "optional")
        bad, good = DaemonFacts(listeners=(optional,)), DaemonFacts(listeners=(evolve(optional, tls="required"),))
        self.watched.journal._events.clear()
        self.facts("OPEN_TO_THE_NETWORK", "nbd 10.0.0.1:3", bad, good)

    def test_configuration_not_saved(self) -> None:
        """CONFIGURATION_NOT_SAVED: the file could not be written."""
        self.facts("CONFIGURATION_NOT_SAVED", "", DaemonFacts(not_saved="dst.toml cannot be written"))

    def test_restart_needed(self) -> None:
        """RESTART_NEEDED: something is read at the start only."""
        bad = DaemonFacts(after_restart=("the name of the daemon",))
        self.assertIn("the name of the daemon", self.facts("RESTART_NEEDED", "", bad))

    def test_state_dir_full(self) -> None:
        """STATE_DIR_FULL: some MiB are left."""
        bad = DaemonFacts(state_dir="/var/lib/dst", state_bytes_free=4 << 20)
        self.assertIn("4.00 MiB", self.facts("STATE_DIR_FULL", "", bad, evolve(bad, state_bytes_free=1 << 30)))

    def test_open_files_short(self) -> None:
        """OPEN_FILES_SHORT: 950 of 1000 descriptors are in use."""
        bad = DaemonFacts(open_files=950, open_files_max=1000)
        self.facts("OPEN_FILES_SHORT", "", bad, evolve(bad, open_files=100))

    def test_hook_fails(self) -> None:
        """HOOK_FAILS: who should be told is not."""
        bad = DaemonFacts(hooks_failing=("the command /bin/page could not be told of an event: it was killed",))
        self.assertIn("/bin/page", self.facts("HOOK_FAILS", "", bad))

    def test_daemon_busy(self) -> None:
        """DAEMON_BUSY: the process did not run for three seconds."""
        self.watched.late_s = 3.0
        self.assertIn("late", self.raised(self.watched, self, "DAEMON_BUSY", ""))
        self.assertGreaterEqual(self.watched.watch.lateness.total_s, 2.0)
        self.cleared(self.watched, self, "DAEMON_BUSY", 300.0)

    def test_clock_jumped(self) -> None:
        """CLOCK_JUMPED: the calendar is set back by an hour, which is news for ten minutes."""
        self.watched.jumped_s = -3600.0
        self.assertIn("jumped back by", self.raised(self.watched, self, "CLOCK_JUMPED", ""))
        self.cleared(self.watched, self, "CLOCK_JUMPED", 700.0)


class AllCodesTests(Scenario):
    """No code escapes."""

    def test_every_code_has_a_scenario(self) -> None:
        """For each code there is a test above that names it first in its sentence."""
        told = " ".join(
            test.__doc__.partition(":")[0]
            for case in (ServiceTests, StartTests, OwnershipTests, HistoryTests, ScrubTests, MemberTests, DaemonTests)
            for name, test in vars(case).items()
            if name.startswith("test_")
        )
        self.assertEqual([], [each.code for each in CODES if each.code not in told.replace(" and ", " ").split()])
