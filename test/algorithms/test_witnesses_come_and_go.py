"""Tests of L{dst.interfaces.IWitnessed}, as mirrors provide it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dst.algorithms.mirror import Mirror
from dst.errors import InvalidRequest, NotFound, Unavailable
from dst.status import Health, LinkState
from dst.testing.media import SimulatedMedia
from test.algorithms.owners import REGION, Keeper, Link, Owners


class WitnessTests(SynchronousTestCase):
    """Nodes that vote come and go while the mirror serves."""

    def start(self, witnesses: int = 1, **options: object) -> tuple[Owners, Mirror]:
        """Two members that serve, with so many witnesses."""
        owners = Owners(witnesses=witnesses, daemons=1, **options)
        mirror = owners.start(0)
        owners.advance(5)
        self.assertIs(LinkState.READY, mirror.link, mirror.reason)
        return owners, mirror

    def votes(self, mirror: Mirror) -> set[str]:
        """Whose votes the record counts."""
        assert mirror.serving is not None
        return {vote.name for vote in mirror.serving.configuration.record.votes}

    def link(self, owners: Owners, name: str, number: int = 50) -> Link:
        """A node that nobody knows yet."""
        return Link(
            owners.clock, Keeper(owners.clock, bytes([number]) * 16), name, SimulatedMedia(REGION, seed=number)
        )

    def test_comes(self) -> None:
        """A new witness votes as soon as it has been admitted, and one member and it are a majority then."""
        owners, mirror = self.start(witnesses=0)
        self.assertEqual({"n0", "n1"}, self.votes(mirror) & {"n0", "n1", "w"})
        witness = self.link(owners, "w")
        self.assertIs(None, owners.result(mirror.add_witness(witness)))
        owners.advance(5)
        self.assertEqual({"n0", "n1", "w"}, self.votes(mirror))
        owners.links[0][1].pull()
        owners.advance(20)
        self.assertIs(None, owners.result(mirror.write(0, bytes(4096))))
        self.assertIs(Health.DEGRADED, mirror.status().health)

    def test_goes(self) -> None:
        """Nobody counts on a witness that has gone, and its node is closed."""
        owners, mirror = self.start(witnesses=2)
        self.assertIs(None, owners.result(mirror.remove_witness("n3")))
        self.assertEqual(["n2"], [witness.name for witness in mirror.witnesses])
        self.assertNotIn("n3", self.votes(mirror))
        self.assertIs(LinkState.CLOSED, owners.links[0][3].link)
        owners.advance(30)
        self.assertEqual({"n0", "n1", "n2"}, self.votes(mirror))
        self.assertIs(None, owners.result(mirror.write(0, bytes(4096))))

    def test_exchanged(self) -> None:
        """One comes, the other goes: the votes stay an odd number in the end, and the storage serves all the time."""
        owners, mirror = self.start()
        self.assertIs(None, owners.result(mirror.add_witness(self.link(owners, "w"))))
        owners.advance(5)
        self.assertIs(None, owners.result(mirror.remove_witness("n2")))
        owners.advance(5)
        self.assertEqual({"n0", "n1", "w"}, self.votes(mirror))
        self.assertIs(LinkState.READY, mirror.link)

    def test_dead_one_goes(self) -> None:
        """A witness that will never be back can be removed: the others are a majority."""
        owners, mirror = self.start(witnesses=1)
        owners.cut(0, 2)
        owners.advance(5)
        self.assertIs(None, owners.result(mirror.remove_witness("n2"), 60))
        self.assertNotIn("n2", self.votes(mirror))
        self.assertIs(LinkState.READY, mirror.link)

    def test_restarted_without(self) -> None:
        """The next start needs only those that are left."""
        owners, mirror = self.start(witnesses=2)
        self.assertIs(None, owners.result(mirror.remove_witness("n3")))
        owners.advance(5)
        owners.kill(0)
        owners.media.pop(), owners.keepers.pop()
        owners.advance(20)
        mirror = owners.start(0)
        owners.advance(10)
        self.assertIs(LinkState.READY, mirror.link, mirror.reason)

    def test_refused(self) -> None:
        """What makes no sense is said, and nothing is done."""
        owners, mirror = self.start()
        self.assertIsInstance(owners.result(mirror.remove_witness("n0")), NotFound)
        self.assertIsInstance(owners.result(mirror.add_witness(self.link(owners, "n0"))), InvalidRequest)
        owners.cut(0)
        owners.advance(20)
        self.assertIsInstance(owners.result(mirror.remove_witness("n2")), Unavailable)
        self.assertEqual(["n2"], [witness.name for witness in mirror.witnesses])

    def test_no_votes(self) -> None:
        """Where the owner alone votes a witness means nothing."""
        owners, mirror = self.start(witnesses=0, votes="owner")
        error = owners.result(mirror.add_witness(self.link(owners, "w")))
        self.assertIsInstance(error, InvalidRequest)
        self.assertEqual([], mirror.witnesses)
