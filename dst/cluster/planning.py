"""
From what runs to what is wanted: the steps, in an order in which nothing is lost, or why there are none.

Values in, values out.  The order::

    listeners close, exports go       nobody begins what is about to end
    storages go, then nodes           from the top down
    nodes, slices and storages come   from the bottom up
    members come, then members go     a mirror has more copies meanwhile, never fewer
    exports come and change, listeners open
    what takes effect at the next start only

Each step leads from one configuration that is right to another one; where that cannot be had it is said before
anything is done.  What cannot be changed without losing data is refused, with what to do instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attrs import evolve

from dst.cluster.difference import Difference, Seen
from dst.cluster.document import Document, read_document
from dst.cluster.moves import Move, edited
from dst.cluster.plan_devices import DeviceMoves
from dst.cluster.plan_serving import ServingMoves
from dst.cluster.plan_storages import StorageMoves
from dst.cluster.rules import Finding
from dst.cluster.topology import Topology
from dst.errors import InvalidRequest

__all__ = ["MOVES_MAX", "Check", "planned"]

MOVES_MAX = 200
"""Steps of one change: each is checked against the rules as a whole, and nobody reads a longer list."""

Check = Callable[[Topology], list[Finding]]


def planned(
    running: Document,
    wanted: Document,
    seen: Seen,
    check: Check,
    base_dir: str = ".",
    kept: Document | None = None,
) -> list[Move]:
    """
    The steps from C{running} to C{wanted}, both of which can be run.

    @param check: what is wrong with a topology.
    @param kept: what is kept now, where that is not what runs.
    @raise InvalidRequest: there is no way without losing something; what to do instead.
    """
    course = _Course(running, running if kept is None else kept, check, base_dir)
    moves = []
    for move in _in_order(Difference(running, wanted, seen, base_dir)):
        moves.append(course.taken(move))
        if len(moves) > MOVES_MAX:
            raise InvalidRequest(f"this needs more than {MOVES_MAX} steps; make it in several changes")
    return moves


def _in_order(between: Difference) -> Iterator[Move]:
    serving, devices, storages = ServingMoves(between), DeviceMoves(between), StorageMoves(between)
    yield from serving.listeners(opening=False)
    yield from serving.exports_that_go()
    yield from devices.devices_that_go()
    yield from devices.devices_that_change()
    yield from devices.devices_that_come()
    yield from storages.storages()
    yield from devices.devices_that_go(late=True)
    yield from serving.exports_that_come()
    yield from serving.listeners(opening=True)
    yield from serving.rest()


class _Course:
    """
    Where the steps so far have led.

    @ivar live: the document of what runs.
    @ivar kept: the document that is kept.
    """

    def __init__(self, live: Document, kept: Document, check: Check, base_dir: str) -> None:
        self.live = live
        self.kept = kept
        self._check = check
        self._base_dir = base_dir

    def taken(self, move: Move) -> Move:
        """
        C{move}, as a step from where the last one has led.

        One that depends on something that comes with the next start does so itself.
        """
        same, kept = self.live is self.kept, edited(self.kept, move.edits)
        wrong = self._wrong(kept)
        if wrong:
            raise InvalidRequest(
                f"{move.step.sentence}: on the way, {wrong[0].sentence}; make this in two changes, "
                "or stop the daemon and change the file"
            )
        if move.live:
            live = kept if same else edited(self.live, move.edits)
            if live is not kept and self._wrong(live):
                sentence = f"{move.step.sentence}, from the next start on"
                move = evolve(move, step=evolve(move.step, after_restart=True, sentence=sentence))
            else:
                self.live = live
        self.kept = kept
        return move

    def _wrong(self, document: Document) -> list[Finding]:
        return self._check(read_document(document, self._base_dir).topology)
