"""
Seeded random lives of mirrors. A seed that failed once becomes a test of its own here.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from test.scenarios.one_owner import walk

SEEDS = 40
"""For each width; C{python -m test.scenarios.walk} runs more."""


class WalkTests(SynchronousTestCase):
    """Nothing flushed is lost, nothing stale is read, equal ages mean equal content, and everything converges."""

    def lives(self, first: int, members: int, count: int = SEEDS) -> None:
        """Every seed, named in the message of the one that fails."""
        for seed in range(first, first + count):
            try:
                walk(seed, members)
            except BaseException as error:
                raise AssertionError(f"seed {seed} with {members} members and one owner: {error}") from error

    def test_two_members(self) -> None:
        """Mirrors of two."""
        self.lives(5000, 2)

    def test_three_members(self) -> None:
        """Mirrors of three."""
        self.lives(0, 3)

    def test_five_members(self) -> None:
        """Mirrors of five."""
        self.lives(9000, 5, 15)


class FoundByWalksTests(SynchronousTestCase):
    """Each of these seeds once broke a promise."""

    def test_clear_waits_for_a_member_that_left(self) -> None:
        """A clear, a record or a copy that hangs on a member ends when the member leaves."""
        walk(67, 3)

    def test_survivor_without_the_write(self) -> None:
        """What was sent only to the copies that are away is sent to the one that came back."""
        walk(5045, 2)

    def test_mark_that_fails_at_once(self) -> None:
        """An operation whose mark failed looks again who needs one."""
        walk(74, 3)

    def test_flush_after_a_failed_flush(self) -> None:
        """A flush that succeeds because an earlier one failed is not acknowledged."""
        walk(5365, 2)

    def test_target_did_what_the_source_refused(self) -> None:
        """A resync target that did a write which failed on its source is copied again."""
        walk(5567, 2)

    def test_refused_write_before_the_record(self) -> None:
        """A write that the last copy refused is answered when a record says that it is the last."""
        walk(745, 3)

    def test_last_copy_came_back_changed(self) -> None:
        """The last copy, back with another incarnation while it was ready, starts the storage again."""
        walk(21, 3)

    def test_drained_while_it_starts_again(self) -> None:
        """A member that ends what an earlier service had sent to it comes back to the present one."""
        walk(101890, 3)
