"""Remote nodes that are asked to write and tell keep the promises of those that are asked to write."""

from __future__ import annotations

from typing import Any

from attrs import frozen
from crc32c import crc32c
from twisted.internet.defer import Deferred

from dst.errors import DSTError, OutOfBounds
from dst.interfaces import Buffer
from dst.nodes.remote import RemoteNode
from test.nodes import test_remote, test_remote_fencing

_write = RemoteNode.write


@frozen
class _Write:
    offset: int
    data: Buffer
    data_crc: int | None
    done: Deferred[None]


def tell(write: _Write, error: DSTError | None) -> None:
    """To whoever waits for it."""
    if error is None:
        write.done.callback(None)
    else:
        write.done.errback(error)


def write_and_wait(self: RemoteNode, offset: int, data: Buffer, *, fua: bool = False) -> Deferred[None]:
    """As C{RemoteNode.write}, the other way."""
    if fua:
        return _write(self, offset, data, fua=fua)
    write = _Write(offset, data, crc32c(data) if offset % 1024 else None, Deferred())
    self.write_and_tell([write], tell)
    return write.done


class Telling:
    """Every write goes this way."""

    def setUp(self) -> None:
        self.patch(RemoteNode, "write", write_and_wait)  # type: ignore[attr-defined]
        super().setUp()  # type: ignore[misc]


class TellingBlipTests(Telling, test_remote.BlipTests):
    """A connection that breaks and comes back in time is not noticed."""

    def test_many_in_one_call(self) -> None:
        """Those of one call are sent again in their order, too, those that were never sent after them."""
        self.device.hold()
        ended: list[Any] = []
        writes = [_Write(n * 512, bytes([n]) * 512, None, Deferred()) for n in range(20)]
        self.node.write_and_tell(writes[:10], lambda write, error: ended.append((write.offset, error)))
        self.serving.turn()
        self.serving.endpoint.pipe.cut()
        self.serving.turn()
        self.node.write_and_tell(writes[10:], lambda write, error: ended.append((write.offset, error)))
        self.assertEqual([], ended)
        self.device.release()
        self.serving.wait(1.0)
        sent = [offset for _, _, offset in test_remote.asked(self.serving, test_remote.WRITES)]
        self.assertEqual([n * 512 for n in range(20)], sent)
        self.assertEqual([(n * 512, None) for n in range(20)], sorted(ended))

    def test_one_does_not_fit(self) -> None:
        """One that is outside of the device, as it is now, fails; the others are done."""
        ended: dict[int, DSTError | None] = {}
        writes = [_Write(offset, b"x" * 512, None, Deferred()) for offset in (0, 1 << 20, 1024)]
        self.node.write_and_tell(writes, lambda write, error: ended.setdefault(write.offset, error))
        self.serving.turn()
        self.assertEqual((None, None), (ended[0], ended[1024]))
        self.assertIsInstance(ended[1 << 20], OutOfBounds)


class TellingAwayTests(Telling, test_remote.AwayTests):
    """A node that stays away fails what waits."""


class TellingDeadlineTests(Telling, test_remote.DeadlineTests):
    """What is not answered in time fails."""


class TellingLimitTests(Telling, test_remote.LimitTests):
    """Limits hold for both together."""

    def test_too_many(self) -> None:
        """Beyond the limit they wait like the others: whoever asks has their data in any case."""
        serving = test_remote.Serving()
        node = serving.open_node()
        serving.device.hold()
        ended: list[DSTError | None] = []
        writes = [_Write(0, b"x" * 512, None, Deferred()) for _ in range(8200)]
        node.write_and_tell(writes, lambda _, error: ended.append(error))
        self.assertEqual([], ended)
        serving.device.release()
        serving.wait(1.0)
        self.assertEqual([None] * 8200, ended)


class TellingDamageTests(Telling, test_remote.DamageTests):
    """What arrives damaged is sent again."""


class TellingErrorTests(Telling, test_remote.ErrorTests):
    """Errors of the device are told as they are."""


class TellingClaimTests(Telling, test_remote_fencing.ClaimedNodeTests):
    """Writes go under the claim that is held when they are sent, and are refused without one."""
