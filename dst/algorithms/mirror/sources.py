"""
What every copy does: hold an extent, ask somebody who has the data, write it to who has not.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.internet.task import deferLater

from dst.algorithms.mirror.configuration import Configuration
from dst.algorithms.mirror.member import Member, members_in
from dst.errors import CorruptData, DSTError, MediaError, NotSupported, Unavailable
from dst.interfaces import Buffer, IChecksums, INode
from dst.recovery.write_order import Extent, ExtentOrder

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["HELD_RETRY_S", "PIECE_BYTES", "Sources", "all_of", "checksums_of", "is_zero", "start"]

_T = TypeVar("_T")

HELD_RETRY_S = 0.02
"""How often something that nobody tells of is looked for again."""

PIECE_BYTES = 4096
"""What is compared, and written where it differs; and the least that is given up when it cannot be read."""


class Sources:
    """The members of one serving mirror, as those that copy see them."""

    def __init__(
        self, clock: IReactorTime, members: Sequence[Member], configuration: Configuration, order: ExtentOrder
    ) -> None:
        self._clock = clock
        self._members = members
        self._configuration = configuration
        self._order = order

    async def hold(self, extent: Extent) -> None:
        """Until nothing overlaps it; then nothing does before it leaves."""
        turn: Deferred[None] = Deferred()
        extent.start = lambda: turn.callback(None)
        if not self._order.enter(extent):
            await turn

    def read(self, offset: int, length: int, avoid: int = 0) -> Coroutine[Any, Any, Buffer]:
        """From any member that is in sync, and lost nothing; a failing one is not asked again."""
        return self.ask(lambda node: node.read(offset, length), avoid)

    async def ask(self, question: Callable[[INode], Deferred[_T]], avoid: int = 0) -> _T:
        """As L{read}, for anything that a member which has the data can answer."""
        configuration = self._configuration
        tried = avoid
        failure: DSTError | None = None
        while True:
            source = self.source(tried)
            if source is None:
                if failure is not None:
                    raise failure
                if not configuration.in_sync & ~tried:
                    raise Unavailable("no other member has it")
                if configuration.stopped:
                    raise Unavailable("the storage is being stopped")
                await deferLater(self._clock, HELD_RETRY_S)  # a blip, or everything is away: wait for it
                continue
            source.reading += 1
            try:
                answer = await source.unless_left(question(source.node))
                if source.node.incarnation == source.incarnation:
                    return answer
                configuration.fail(source, "it restarted and may have lost what it had not flushed")
            except Unavailable as error:
                configuration.fail(source, f"a read was not answered: {error}")
            except DSTError as error:
                tried |= source.bit
                failure = error
            finally:
                source.reading -= 1

    def source(self, avoid: int = 0) -> Member | None:
        """Who is asked now: the one that reads least."""
        configuration = self._configuration
        ready = [
            member
            for member in members_in(self._members, configuration.in_sync & configuration.usable & ~avoid)
            if member.ready and member.node.incarnation == member.incarnation
        ]
        return min(ready, key=lambda each: each.reading) if ready else None

    async def read_what_can_be_read(
        self, first: int, end: int, got: Callable[[int, Buffer], Coroutine[Any, Any, None]]
    ) -> list[tuple[int, int]]:
        """
        Read an extent; where nobody can read it, its parts, down to the least.

        @param got: given what was read, and where.
        @return: what nobody can read, as (first, end).
        """
        try:
            data = await self.read(first, end - first)
        except (MediaError, CorruptData):
            if end - first <= PIECE_BYTES:
                return [(first, end)]
            middle = first + max(PIECE_BYTES, (end - first) // 2 // PIECE_BYTES * PIECE_BYTES)
            bad = await self.read_what_can_be_read(first, middle, got)
            return bad + await self.read_what_can_be_read(middle, end, got)
        await got(first, data)
        return []

    def write(self, member: Member, offset: int, data: Buffer) -> Deferred[None]:
        """To a member; zeroes as such, so that they need no space."""
        length = len(data)
        if is_zero(data):
            return member.unless_left(member.device.write_zeroes(offset, length))
        return member.unless_left(member.device.write(offset, data))


def is_zero(data: Buffer) -> bool:
    """Whether it is nothing but zeroes; what is not says so with its first bytes mostly."""
    head = bytes(data[:64])
    return head.count(0) == len(head) and bytes(data).count(0) == len(data)


def checksums_of(node: INode, offset: int, length: int) -> Deferred[bytes]:
    """What an extent of C{node} holds, in pieces; fails with C{NotSupported} where that cannot be told."""
    if IChecksums.providedBy(node):
        return IChecksums(node).checksums(offset, length, PIECE_BYTES)
    return fail(NotSupported(f"{node.name} cannot tell checksums"))


def start(work: Callable[..., Coroutine[Any, Any, _T]], *args: object) -> Deferred[_T]:
    """Begin it now."""
    return Deferred.fromCoroutine(work(*args))


async def all_of(work: list[Deferred[_T]]) -> list[_T]:
    """The results of all, or the first error once B{all} have ended: nothing of it goes on behind our back."""
    ended = await DeferredList(work, consumeErrors=True)
    for good, result in ended:
        if not good:
            result.raiseException()  # type: ignore[attr-defined]
    return [result for _, result in ended]
