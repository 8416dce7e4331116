"""
What a client asks of a device besides reading and changing it, and the ways to answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from dst.checksums import block_checksums, checksums_refusal
from dst.errors import CorruptData, DSTError, InternalError, InvalidRequest, NotSupported, ReadOnly
from dst.explaining_trees import explained_status
from dst.exports.dst_claims import answer_to_claim
from dst.exports.dst_limits import Memory
from dst.exports.traffic import Counters
from dst.geometry import Geometry, StatusExtent
from dst.interfaces import Buffer, IChecksums, INode
from dst.ownership import Promise
from dst.recovery.fence import Entrance
from dst.wire.bodies import decode_block_size, encode_extents, encode_names, encode_status
from dst.wire.claims import ClaimKind, decode_claim, encode_promise
from dst.wire.framing import answer_header, error_answer
from dst.wire.messages import CHANGES, DAMAGED, Frame, Operation

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["READING", "IClient", "Questions", "read_only"]

_log = Logger()

_CLAIM = int(Operation.CLAIM)
_CHECKSUMS = int(Operation.CHECKSUMS)

READING = frozenset({int(Operation.READ), _CHECKSUMS})
"""What reads as many bytes as the length of the request says."""

_NO_KEYWORDS: dict[str, object] = {}


class IClient(Protocol):
    """
    The connection that requests come from.

    @ivar unread: it takes no answers at the moment.
    @ivar answered_bytes: what was read for it, and is still on its way to it.
    """

    unread: bool
    answered_bytes: int

    def send(self, header: Buffer, data: Buffer = b"") -> None:
        """Send an answer; nothing happens if the connection is gone."""

    def send_last(self, header: Buffer, data: Buffer = b"") -> None:
        """Send an answer after which there is none in flight, so that nothing is worth waiting for."""

    def list_exports(self) -> list[str]:
        """The names that it may open."""

    def incarnation_changed(self) -> None:
        """The device has another incarnation than the client knows."""

    def request_ended(self) -> None:
        """Called after each request while C{Requests.attentive} is set, or somebody waits for memory."""


class Questions:
    """
    The requests that L{dst.exports.dst_requests.Requests} need not be quick with.

    @ivar count: how many are being executed.
    @ivar changes: how many of them change the device.
    @ivar bytes: what is read or written by them.
    @ivar attentive: C{request_ended} is to be called.
    @ivar entrance: the way past the fence of the device, if it has one.
    @ivar counters: what was asked for.
    """

    def __init__(self, clock: IReactorTime, client: IClient, memory: Memory) -> None:
        self.counters = Counters()
        self.count = 0
        self.changes = 0
        self.bytes = 0
        self.attentive = False
        self.node: INode | None = None
        self.geometry = Geometry(0)
        self.entrance: Entrance | None = None
        self.checksums = True
        self._clock = clock
        self._client = client
        self._memory = memory
        self._send = client.send

    def _block_status(self, frame: Frame) -> None:
        self.geometry.check_extent(frame.offset, frame.length)
        self.count += 1
        result = self.node.block_status(frame.offset, frame.length)  # type: ignore[union-attr]
        result.addCallbacks(self._block_status_done, self._failed, (frame,), _NO_KEYWORDS, (frame,), _NO_KEYWORDS)

    def _block_status_done(self, extents: list[StatusExtent], frame: Frame) -> None:
        self.count -= 1
        self._answer(frame, encode_extents(extents))
        if self.attentive or self._memory.short:
            self._client.request_ended()

    def _claim(self, frame: Frame) -> None:
        entrance = self.entrance
        if entrance is None:
            raise NotSupported(
                "the export makes no promises: its daemon has no state_dir, or others can change the device"
            )
        if not frame.intact:
            damaged = CorruptData("the data did not arrive as it was sent; nothing was promised")
            self._send(error_answer(_CLAIM, frame.id, damaged, flags=DAMAGED))
            return
        asked = decode_claim(frame.data)
        if asked.kind is not ClaimKind.ASK and self.geometry.read_only:
            raise read_only()
        self.count += 1
        answer_to_claim(entrance, asked).addCallbacks(
            self._promised, self._failed, (frame,), _NO_KEYWORDS, (frame,), _NO_KEYWORDS
        )

    def _promised(self, promise: Promise, frame: Frame) -> None:
        self.count -= 1
        self._answer(frame, encode_promise(promise))

    def _checksums(self, frame: Frame) -> None:
        if not frame.intact:
            damaged = CorruptData("the request did not arrive as it was sent")
            self._send(error_answer(_CHECKSUMS, frame.id, damaged, flags=DAMAGED))
            return
        block_bytes = decode_block_size(frame.data)
        self.geometry.check_transfer(frame.offset, frame.length)
        refusal = checksums_refusal(frame.length, block_bytes)
        if refusal is not None:
            raise refusal
        self.count += 1
        self.bytes += frame.length
        self._memory.taken += frame.length
        node = self.node
        assert node is not None
        if IChecksums.providedBy(node):
            result = IChecksums(node).checksums(frame.offset, frame.length, block_bytes)
            result.addErrback(self._read_instead, node, frame, block_bytes)
        else:
            result = node.read(frame.offset, frame.length).addCallback(block_checksums, block_bytes)
        result.addCallbacks(self._checksums_done, self._failed, (frame,), _NO_KEYWORDS, (frame,), _NO_KEYWORDS)

    def _read_instead(self, failure: Failure, node: INode, frame: Frame, block_bytes: int) -> Deferred[bytes]:
        """What is below cannot tell checksums: then they are made here, and that is what saves the wire."""
        failure.trap(NotSupported)
        return node.read(frame.offset, frame.length).addCallback(block_checksums, block_bytes)

    def _checksums_done(self, checksums: bytes, frame: Frame) -> None:
        self.count -= 1
        self._give_back(frame.length)
        self._answer(frame, checksums)
        if self.attentive or self._memory.short:
            self._client.request_ended()

    def _ping(self, frame: Frame) -> None:
        self._send(answer_header(frame.kind, frame.id))

    def _list_exports(self, frame: Frame) -> None:
        self._answer(frame, encode_names(self._client.list_exports()))

    def _status(self, frame: Frame) -> None:
        if self.node is None:
            raise InvalidRequest("no export was opened in the hello")
        self._answer(frame, encode_status(explained_status(self.node)))

    def _answer(self, frame: Frame, data: bytes) -> None:
        self._send(answer_header(frame.kind, frame.id, data=data, checksum=self.checksums), data)

    def _answer_error(self, frame: Frame, error: DSTError) -> None:
        self.counters.errors += 1
        self._send(error_answer(frame.kind, frame.id, error))

    def _failed(self, failure: Failure, frame: Frame) -> None:
        """The device could not do it: the client gets to know exactly that."""
        self.count -= 1
        if frame.kind in CHANGES:
            self.changes -= 1
            self._give_back(len(frame.data))
        elif frame.kind in READING:
            self._give_back(frame.length)
        error = failure.value
        if not isinstance(error, DSTError):
            _log.failure("a device failed with what is no DSTError", failure)
            error = InternalError(f"the device failed unexpectedly: {failure.getErrorMessage()}")
        self._answer_error(frame, error)
        if self.attentive or self._memory.short:
            self._client.request_ended()

    def _give_back(self, length: int) -> None:
        self.bytes -= length
        self._memory.taken -= length


def read_only() -> ReadOnly:
    """Why nothing is changed."""
    return ReadOnly("the export may not be changed by this client")
