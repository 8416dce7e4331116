"""
A node that is an export of another DST daemon.

Between this node and its device there may at any time be no connection, one, or the
end of one that nobody has noticed yet.  What is asked is kept until it is answered, and sent
again over the next connection if that reaches the same device in the same incarnation in time::

    connecting --> ready <--> interrupted --> away --> ready ...

The server guarantees that nothing which was sent over an earlier connection is executed after it has
answered the hello of a later one (C{docs/specifications/wire.rst}).  That is what makes it safe to send
again, and to write again what a failed write has left unknown.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from attrs import evolve
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dst.checksums import checksums_refusal
from dst.errors import (
    DSTError,
    Fenced,
    IncarnationChanged,
    NotSupported,
    PeerError,
    ReadOnly,
    Unavailable,
)
from dst.geometry import StatusExtent
from dst.interfaces import Buffer, IChecksums, IFenced, INode, IWritesAndTells, TellOfWrite, Write
from dst.observing import ObservableNode
from dst.ownership import Claim, Promise
from dst.recovery.held_claim import HeldClaim
from dst.status import LinkState, StatusTree
from dst.transport.reconnect import Reconnector
from dst.transport.session import ClientSession, connect_session
from dst.transport.transactions import TransactionTable
from dst.wire.bodies import (
    decode_checksums,
    decode_extents,
    decode_status,
    encode_block_size,
)
from dst.wire.claims import ClaimKind, ClaimRequest, decode_promise, encode_claim
from dst.wire.handshake import Configuration, Hello
from dst.wire.messages import NAME_BYTES_MAX, Flag, Operation

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["RemoteNode"]

_log = Logger()

_READ = int(Operation.READ)
_WRITE = int(Operation.WRITE)


@implementer(INode, IChecksums, IFenced, IWritesAndTells)
class RemoteNode(ObservableNode):
    """
    One export of another daemon.  It keeps trying to reach it from C{open} until C{close}.

    @ivar token: what makes all connections of this node known as one client's.
    @ivar fence: see L{dst.interfaces.IFenced.fence}.
    """

    kind = "remote"

    def __init__(
        self,
        clock: IReactorTime,
        name: str,
        endpoint: IStreamClientEndpoint,
        export: str,
        *,
        random: Random,
        address: str = "",
        resend_s_max: float = 5.0,
        deadline_s: float = 30.0,
        keepalive_s: float = 1.5,
        status_s: float = 2.0,
        claim_s: float = 2.0,
        delay_s_max: float = 5.0,
        token: bytes | None = None,
        client: str = "",
    ) -> None:
        """
        @param address: the endpoint in people's words.
        @param resend_s_max: how long transactions wait for a connection to come back before they fail.
        @param deadline_s: how long the server may take for one of them.
        @param keepalive_s: how often the server must give a sign of life.
        @param claim_s: how long an answer about claims may take; after that it is worth nothing.
        @param status_s: how often it is asked for the status of its device.
        @param delay_s_max: the longest pause between two attempts to connect.
        @param token: 16 bytes; C{None} for random ones, which is right except for tests.
        @param client: how the server's log calls this node.
        """
        super().__init__(clock, name)
        self.token = os.urandom(16) if token is None else token
        self._address = address
        self._endpoint = endpoint
        self._export = export
        self._client = (client or name).encode()[:NAME_BYTES_MAX].decode("utf-8", "ignore")
        self._resend_s_max = resend_s_max
        self._keepalive_s = keepalive_s
        self._status_s = status_s
        self._claim_s = claim_s
        self.fence = b""
        self._held = HeldClaim(name)
        self._attempts = 0
        self._block_checksums = False
        self._session: ClientSession | None = None
        self._greeting: ClientSession | None = None  # the newest one made, which may not be ready yet
        self._table = TransactionTable(clock, self._overdue, deadline_s=deadline_s)
        self._ask = self._table.ask
        self.answered = self._table.answered  # what a session tells its owner, without a step between
        self._opening: list[Deferred[None]] = []
        self._closing: list[Deferred[None]] | None = None
        self._giving_up: IDelayedCall | None = None
        self._polling: IDelayedCall | None = None
        self._subtree: StatusTree | None = None
        self._reconnector = self._make_reconnector(random, delay_s_max)

    def _make_reconnector(self, random: Random, delay_s_max: float) -> Reconnector[ClientSession]:
        return Reconnector(
            self.clock,
            self._attempt,
            self._connected,
            self._failed,
            random=random,
            delay_s_max=delay_s_max,
        )

    # What a device does.

    def read(self, offset: int, length: int) -> Deferred[Buffer]:
        if not self.usable:
            return fail(self.unavailable())
        try:
            self.geometry.check_transfer(offset, length)
        except DSTError as error:
            return fail(error)
        return self._ask(_READ, offset, length, cost_bytes=length)

    def checksums(self, offset: int, length: int, block_bytes: int) -> Deferred[bytes]:
        if not self._block_checksums:
            return fail(NotSupported(f"{self.name} is served by a daemon that cannot tell checksums of blocks"))
        refusal = self._refusal(offset, length, transfer=True) or checksums_refusal(length, block_bytes)
        if refusal is not None:
            return fail(refusal)
        data = encode_block_size(block_bytes)
        asked = self._ask(Operation.CHECKSUMS, offset, length, data=data, cost_bytes=length)
        return asked.addCallback(decode_checksums, length, block_bytes)

    def write(self, offset: int, data: Buffer, *, fua: bool = False) -> Deferred[None]:
        if not self.usable:
            return fail(self.unavailable())
        length = len(data)
        try:
            self.geometry.check_transfer(offset, length)
        except DSTError as error:
            return fail(error)
        if self._held.dismissed or self.geometry.read_only:
            return fail(self._unchangeable())
        return self._ask(_WRITE, offset, length, flags=Flag.FUA if fua else 0, data=data, cost_bytes=length)

    def write_and_tell(self, writes: Sequence[Write], told: TellOfWrite) -> None:
        """See L{dst.interfaces.IWritesAndTells.write_and_tell}."""
        geometry = self.geometry
        if self.usable and not self._held.dismissed and not geometry.read_only:
            size, most, mask = geometry.size, geometry.transfer_bytes_max, geometry.block_size - 1
            for write in writes:
                length = len(write.data)
                if write.offset + length > size or length > most or (write.offset | length) & mask:
                    break
            else:
                self._table.write_and_tell(writes, told)
                return
        # It is another device now than that which was asked about: as if each came alone.
        for write in writes:
            refusal = self._refusal(write.offset, len(write.data), transfer=True)
            if refusal is None and (self._held.dismissed or self.geometry.read_only):
                refusal = self._unchangeable()
            if refusal is None:
                self._table.write_and_tell((write,), told)
            else:
                told(write, refusal)

    def flush(self) -> Deferred[None]:
        if not self.usable:
            return fail(self.unavailable())
        return self._ask(Operation.FLUSH)

    def trim(self, offset: int, length: int) -> Deferred[None]:
        return self._change(Operation.TRIM, offset, length, 0)

    def write_zeroes(
        self, offset: int, length: int, *, fua: bool = False, no_hole: bool = False, fast_only: bool = False
    ) -> Deferred[None]:
        flags = (Flag.FUA if fua else 0) | (Flag.NO_HOLE if no_hole else 0) | (Flag.FAST_ONLY if fast_only else 0)
        return self._change(Operation.WRITE_ZEROES, offset, length, flags)

    def block_status(self, offset: int, length: int) -> Deferred[list[StatusExtent]]:
        if not self.usable:
            return fail(self.unavailable())
        try:
            self.geometry.check_extent(offset, length)
        except DSTError as error:
            return fail(error)
        return self._ask(Operation.BLOCK_STATUS, offset, length).addCallback(decode_extents, length)

    def _change(self, operation: Operation, offset: int, length: int, flags: int) -> Deferred[None]:
        if not self.usable:
            return fail(self.unavailable())
        try:
            self.geometry.check_extent(offset, length)
        except DSTError as error:
            return fail(error)
        if self._held.dismissed or self.geometry.read_only:
            return fail(self._unchangeable())
        return self._ask(operation, offset, length, flags=flags)

    def _unchangeable(self) -> DSTError:
        if self._held.dismissed:
            return self._held.refusal()
        return ReadOnly(f"{self.name} may not be changed: its server exports {self._export!r} read-only")

    # What a fence does.

    def ask(self) -> Deferred[Promise]:
        """See L{dst.interfaces.IFenced.ask}."""
        return self._ask_fence(ClaimRequest(ClaimKind.ASK))

    def claim(self, claim: Claim, lease_s: float, name: str) -> Deferred[Promise]:
        """See L{dst.interfaces.IFenced.claim}."""
        self._held.asking(claim)
        return self._ask_fence(ClaimRequest(ClaimKind.CLAIM, claim, lease_s, name))

    def renew(self) -> Deferred[Promise]:
        """See L{dst.interfaces.IFenced.renew}."""
        return self._ask_fence(ClaimRequest(ClaimKind.RENEW, self._held.claim))

    def release(self) -> Deferred[Promise]:
        """See L{dst.interfaces.IFenced.release}."""
        given_back = self._held.claim
        self._dismiss()
        return self._ask_fence(ClaimRequest(ClaimKind.RELEASE, given_back))

    def want(self, name: str) -> Deferred[Promise]:
        """See L{dst.interfaces.IFenced.want}."""
        return self._ask_fence(ClaimRequest(ClaimKind.WANT, name=name))

    def _ask_fence(self, request: ClaimRequest) -> Deferred[Promise]:
        if not self.usable:
            return fail(self.unavailable())
        if not self.fence:
            return fail(
                NotSupported(f"{self.name} makes no promises: its daemon has no state_dir, or others can change it")
            )
        asked = self._table.ask_in_haste(Operation.CLAIM, encode_claim(request), self._claim_s)
        return asked.addCallback(self._promised)

    def _promised(self, data: Buffer) -> Promise:
        try:
            promise = decode_promise(data)
        except PeerError as error:
            if self._session is not None:
                self._session.cut(error.message)
            raise Unavailable(f"{self.name} answered a claim with nonsense: {error.message}") from error
        self._held.learn(promise)
        self._follow()
        return promise

    def _dismiss(self) -> None:
        self._held.give_up()
        self._follow()

    def _follow(self) -> None:
        self._table.epoch = self._held.epoch
        self._table.refuse_changes(self._held.refusal if self._held.dismissed else None)

    def status(self) -> StatusTree:
        detail: dict[str, object] = {"export": self._export, "unanswered": len(self._table)}
        if self._address:
            detail["address"] = self._address
        children = () if self._subtree is None else (self._subtree,)
        return evolve(super().status(), detail=detail, children=children)

    # What a node does.

    def open(self) -> Deferred[None]:
        if self._closing is not None:
            return fail(self.unavailable())
        if self.link is not LinkState.CONNECTING:
            return succeed(None)
        opened: Deferred[None] = Deferred()
        self._opening.append(opened)
        self._reconnector.start()
        return opened

    def close(self) -> Deferred[None]:
        closed: Deferred[None] = Deferred()
        if self._closing is not None:
            if self.link is LinkState.CLOSED and self._greeting is None:
                return succeed(None)
            self._closing.append(closed)
            return closed
        self._closing = [closed]
        self._session = self._subtree = None
        self._stop_timers()
        self.changed(LinkState.CLOSED, "it was closed")
        self._table.detach()
        self._table.fail_all(self.unavailable)
        self._fire_opening()
        self._reconnector.stop().addCallback(lambda _: self._leave_session())
        return closed

    def _leave_session(self) -> None:
        leaving = succeed(None) if self._greeting is None else self._greeting.leave()

        def left(_: None) -> None:
            self._greeting = None
            assert self._closing is not None
            closing, self._closing = self._closing, []
            for closed in closing:
                closed.callback(None)

        leaving.addCallback(left)

    # What a Reconnector asks of its owner.

    def _attempt(self) -> Deferred[ClientSession]:
        self._attempts += 1
        hello = Hello(self.token, self._attempts, self._client, self._export)
        return connect_session(
            self.clock, self._endpoint, hello, keepalive_s=self._keepalive_s, make_session=self._make_session
        )

    def _make_session(self, clock: IReactorTime, hello: Hello, keepalive_s: float) -> ClientSession:
        self._greeting = ClientSession(clock, hello, keepalive_s)
        return self._greeting

    def _connected(self, session: ClientSession) -> None:
        session.owner = self
        self._session = session
        configuration = session.configuration
        self._block_checksums = configuration.block_checksums
        self._cancel_giving_up()
        if self.fence and configuration.fence != self.fence:
            # Whatever it promised it does not know of.  No request may get there as if it did.
            self.changed(LinkState.AWAY, "the server has lost its memory of what it has promised")
            self._dismiss()
            self._table.fail_all(lambda: Fenced(f"{self.name} came back without memory of what it had promised"))
            if self._session is not session:
                return
        self.fence = configuration.fence
        if len(self._table) and configuration.incarnation != self.incarnation:
            # Said before they fail, so that whoever asks again at once is refused and not sent to the other device.
            self.changed(LinkState.AWAY, "the device at the other end may have lost what it had not flushed")
            self._table.fail_all(
                lambda: IncarnationChanged(f"{self.name} came back, but may have lost what it had not flushed")
            )
            if self._session is not session:
                return
        self.changed(LinkState.READY, "", geometry=configuration.geometry, incarnation=configuration.incarnation)
        self._table.attach(
            session,
            requests_max=configuration.requests_max,
            bytes_max=configuration.bytes_max,
            checksums=configuration.checksums,
        )
        self._fire_opening()
        self._poll()

    def _failed(self, failure: Failure, next_delay_s: float) -> None:
        why = failure.getErrorMessage()
        if not failure.check(DSTError, ConnectError):
            why = f"{self._address or 'the server'} cannot be reached: {type(failure.value).__name__} {why}"
        if self.link is LinkState.INTERRUPTED:
            self.reason = why  # the next attempt may be in time
            return
        if self.link is LinkState.CONNECTING or self.reason != why:
            _log.info(
                "{name}: {why}; trying again in {delay_s:.1f} s and so on",
                name=self.name,
                why=why,
                delay_s=next_delay_s,
            )
        self.changed(LinkState.AWAY, why)
        self._fire_opening()

    # What a session tells its owner.

    def turn_ended(self) -> None:
        self._table.pump()

    def configuration_changed(self, configuration: Configuration) -> None:
        session = self._session
        assert session is not None
        if configuration.incarnation != self.incarnation:
            # What is unanswered may have been executed before or after the loss: the hello sorts it out.
            session.cut("the device at the other end has a new incarnation")
            return
        self.changed(geometry=configuration.geometry)

    def session_lost(self, reason: str) -> None:
        self._session = None
        self._subtree = None
        self._table.detach()
        self._stop_timers()
        _log.info("{name}: {reason}", name=self.name, reason=reason)
        self.changed(LinkState.INTERRUPTED, reason)
        self._giving_up = self.clock.callLater(self._resend_s_max, self._give_up)
        self._reconnector.lost()

    # The rest.

    def _overdue(self, sentence: str) -> None:
        if self._session is not None:
            self._session.cut(sentence)

    def _give_up(self) -> None:
        self._giving_up = None
        self.changed(LinkState.AWAY, self.reason)
        why = f"{self.name} did not come back within {self._resend_s_max:g} s: {self.reason}"
        self._table.fail_all(lambda: Unavailable(why))

    def _poll(self) -> None:
        """Ask for the subtree, for L{status} to have it at hand; never more than one question at a time."""
        self._polling = None
        session = self._session

        def told(data: Buffer) -> None:
            if self._session is session:
                self._subtree = decode_status(data)

        def untold(failure: Failure) -> None:
            # A status is worth nothing but itself: whatever is wrong with it harms no data.
            failure.trap(DSTError)
            self._subtree = None
            if failure.check(PeerError) and self._session is session and session is not None:
                session.cut(failure.getErrorMessage())

        def again(_: None) -> None:
            if self._session is session and self._polling is None:
                self._polling = self.clock.callLater(self._status_s, self._poll)

        if session is not None:
            self._ask(Operation.STATUS).addCallback(told).addErrback(untold).addCallback(again)

    def _fire_opening(self) -> None:
        opening, self._opening = self._opening, []
        for opened in opening:
            opened.callback(None)

    def _cancel_giving_up(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None

    def _stop_timers(self) -> None:
        self._cancel_giving_up()
        if self._polling is not None:
            self._polling.cancel()
            self._polling = None


def _nothing(_: Any) -> None:
    """The answer says nothing but that it is done."""
