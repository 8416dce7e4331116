"""Remote nodes: a device at the other end of a connection that breaks."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dst.errors import (
    CorruptData,
    DeadlinePassed,
    DSTError,
    IncarnationChanged,
    LimitReached,
    MediaError,
    NoSpace,
    NotSupported,
    ReadOnly,
    Unavailable,
)
from dst.exports.dst_server import Limits
from dst.nodes.memory import MemoryDevice
from dst.nodes.remote import RemoteNode
from dst.status import Health, LinkState
from dst.testing.device_suite import FailedFlushSuite
from dst.testing.faulty import faulty_disk
from dst.testing.node_suite import node_suite
from dst.testing.specimen import Specimen
from dst.wire.messages import Feature, Operation
from test.transport.serving import Exports, Serving, frames_in


def specimen(**options: Any) -> Specimen:
    serving = Serving(size=4 << 20, **options)
    return Specimen(serving.node(), clock=serving.clock, step_s=0.001, reopen=serving.node)


def over_faulty_disk(case: object) -> Specimen:
    """A node of a server whose disk can fail a flush."""
    serving = Serving()
    serving.device = disk = faulty_disk(serving.clock, "vol", 4 << 20)
    disk.open()
    serving.exports = Exports(disk)
    serving.server = serving.make_server()
    return Specimen(
        serving.node(),
        clock=serving.clock,
        step_s=0.001,
        reopen=serving.node,
        fail_flush=lambda: disk.fail_next("flush", MediaError("worn out")),
    )


class RemoteNodeSuite(  # type: ignore[misc]
    node_suite(RemoteNode, lambda case: specimen(), make_read_only=lambda case: specimen(read_only=True))
):
    """L{RemoteNode} over a DST server keeps every promise of a node."""


class RemoteNodeOfFaultyDiskSuite(node_suite(RemoteNode, over_faulty_disk), FailedFlushSuite):  # type: ignore[misc]
    """So does one of a disk that can fail."""


class FragmentedRemoteNodeSuite(  # type: ignore[misc]
    node_suite(
        RemoteNode,
        lambda case: specimen(fragment_bytes=5000, capacity_bytes=3000),
        make_read_only=lambda case: specimen(fragment_bytes=5000, capacity_bytes=3000, read_only=True),
    )
):
    """And over a connection that delivers odd pieces and has little room."""


def watch(deferred: Deferred[Any]) -> list[Any]:
    """Filled with the result or the error when it is there."""
    seen: list[Any] = []
    deferred.addCallbacks(seen.append, lambda failure: seen.append(failure.value))
    return seen


def asked(serving: Serving, kinds: frozenset[int], pipe: int = -1) -> list[tuple[int, int, int]]:
    """Kind, id and offset of the requests that were sent over a connection."""
    return [
        (frame.kind, frame.id, frame.offset)
        for frame in frames_in(serving.endpoint.pipes[pipe].client.sent)
        if frame.kind in kinds
    ]


WRITES = frozenset({int(Operation.WRITE)})
READS_AND_WRITES = frozenset({int(Operation.READ), int(Operation.WRITE)})


class BlipTests(SynchronousTestCase):
    """A connection that breaks and comes back in time is not noticed."""

    def setUp(self) -> None:
        self.serving = Serving()
        self.node = self.serving.open_node()
        self.device = self.serving.device

    def test_interrupted(self) -> None:
        """When the connection breaks the node is interrupted, says why, and keeps what is asked of it."""
        self.serving.endpoint.pipe.cut()
        self.serving.turn()
        self.assertIs(LinkState.INTERRUPTED, self.node.link)
        self.assertNotEqual("", self.node.reason)
        written = watch(self.node.write(0, b"x" * 512))
        self.serving.turn()
        self.assertEqual([], written)
        self.serving.wait(1.0)
        self.assertEqual([None], written)
        self.assertEqual((LinkState.READY, ""), (self.node.link, self.node.reason))

    def test_unanswered_are_sent_again_in_order(self) -> None:
        """What was not answered is sent again, in the order in which it was asked, and completes."""
        self.device.hold()
        results = [watch(self.node.write(n * 512, bytes([n]) * 512)) for n in range(1, 10)]
        results.append(watch(self.node.read(0, 512)))
        self.serving.turn()
        self.serving.endpoint.pipe.cut()
        self.serving.turn()
        self.device.release()
        self.serving.wait(1.0)
        self.assertEqual(2, len(self.serving.endpoint.pipes))
        first, second = (asked(self.serving, READS_AND_WRITES, pipe) for pipe in (0, 1))
        self.assertEqual(first, second)
        self.assertEqual(10, len(second))
        self.assertEqual(
            [[None]] * 9 + [[bytes(512)]], [[bytes(r) if r else r for r in result] for result in results]
        )
        for n in range(1, 10):
            self.assertEqual(bytes([n]) * 512, bytes(self.serving.result(self.memory_read(n * 512, 512))))

    def memory_read(self, offset: int, length: int) -> Deferred[Any]:
        return self.serving.memory.read(offset, length)

    def test_answered_are_not_sent_again(self) -> None:
        """What was answered stays answered."""
        self.serving.result(self.node.write(0, b"a" * 512))
        self.device.hold()
        watch(self.node.write(512, b"b" * 512))
        self.serving.turn()
        self.serving.endpoint.pipe.cut()
        self.device.release()
        self.serving.wait(1.0)
        self.assertEqual([512], [offset for _, _, offset in asked(self.serving, WRITES)])

    def test_resend_is_the_same_message(self) -> None:
        """
        The header of a request that is sent again is the header that was sent at first, bit by bit, however often:
        there is nothing that could be converted twice.
        """
        self.device.hold()
        watch(self.node.write(0x0102030400 % (1 << 20), b"z" * 512, fua=True))
        sent = []
        for _ in range(4):
            self.serving.turn()
            sent.append([frame for frame in self.client_stream() if frame[4] == Operation.WRITE])
            self.serving.endpoint.pipe.cut()
            self.serving.turn()
            self.device.drop_held(Unavailable("cut"))
            self.serving.wait(4.0)
        self.assertEqual(1, len(sent[0]))
        self.assertEqual([sent[0]] * 4, sent)

    def client_stream(self) -> list[bytes]:
        """The messages that were sent over the newest connection, as bytes."""
        stream, messages = bytes(self.serving.endpoint.pipe.client.sent), []
        while stream:
            end = 64 + int.from_bytes(stream[48:52], "little")
            messages.append(stream[:end])
            stream = stream[end:]
        return messages

    def test_deadline_is_renewed(self) -> None:
        """The time for the answer begins again when a request is sent again."""
        serving = Serving()
        node = serving.open_node(deadline_s=3.0)
        serving.device.hold()
        read = watch(node.read(0, 512))
        serving.wait(2.5)
        serving.endpoint.pipe.cut()
        serving.wait(2.5)  # 5 s after it was asked, some 2 s after it was sent again
        self.assertEqual([], read)
        serving.device.release()
        serving.turn()
        self.assertEqual([bytes(512)], [bytes(data) for data in read])

    def test_sent_again_a_limited_number_of_times(self) -> None:
        """With a connection that breaks each time a request is given up in the end."""
        self.device.hold()
        read = watch(self.node.read(0, 512))
        for _ in range(40):
            self.serving.turn()
            self.serving.endpoint.pipe.cut()
            self.serving.turn()
            for _ in range(300):
                if self.node.link is LinkState.READY or read:
                    break
                self.serving.clock.advance(0.05)
            if read:
                break
        self.assertIsInstance(read[0], Unavailable)

    def test_configuration_is_asked_again(self) -> None:
        """After a reconnection size and permissions are those of now, and the observers know."""
        seen = []
        self.node.observe(lambda node: seen.append((node.geometry.size, node.geometry.read_only)))
        self.serving.endpoint.pipe.cut()
        self.serving.turn()
        grown = MemoryDevice(self.serving.clock, "vol", 2 << 20, read_only=True, incarnation=self.node.incarnation)
        grown.open()
        self.serving.exports.nodes["vol"] = grown
        self.serving.wait(1.0)
        self.assertEqual((2 << 20, True), (self.node.geometry.size, self.node.geometry.read_only))
        self.assertEqual((2 << 20, True), seen[-1])
        self.failureResultOf(self.node.write(0, bytes(512)), ReadOnly)

    def test_server_restarts(self) -> None:
        """Another process at the same media and in the same incarnation is a blip too."""
        self.device.hold()
        written = watch(self.node.write(0, b"x" * 512))
        self.serving.turn()
        self.serving.restart_server()
        self.device.release()
        self.serving.wait(1.0)
        self.assertEqual([None], written)

    def test_queue_while_interrupted_is_bounded(self) -> None:
        """What waits for the connection is bounded in number; more is refused at once."""
        self.serving.endpoint.refusing = True
        self.serving.endpoint.pipe.cut()
        self.serving.turn()
        results = [watch(self.node.read(0, 512)) for _ in range(16385)]
        self.assertEqual(0, sum(map(len, results[:16383])))
        self.assertIsInstance(results[-1][0], LimitReached)
        self.serving.wait(6.0)
        self.assertTrue(all(isinstance(result[0], DSTError) for result in results))

    def test_queue_while_interrupted_is_bounded_in_bytes(self) -> None:
        """And in bytes; what is to be written waits all the same, as its data does with whoever asks."""
        serving = Serving(size=64 << 20)
        node = serving.open_node()
        serving.endpoint.refusing = True
        serving.endpoint.pipe.cut()
        serving.turn()
        data = bytes(32 << 20)
        results = [watch(node.write(0, data)) for _ in range(65)]
        self.assertEqual([0] * 65, [len(result) for result in results])
        self.assertIsInstance(watch(node.read(0, 512))[0], LimitReached)


class AwayTests(SynchronousTestCase):
    """A connection that does not come back in time, or comes back to something else."""

    def setUp(self) -> None:
        self.serving = Serving()
        self.node = self.serving.open_node(resend_s_max=5.0)

    def test_given_up(self) -> None:
        """After the resend time what was kept fails with the reason, and the node is away."""
        self.serving.endpoint.refusing = True
        self.serving.endpoint.pipe.cut()
        self.serving.turn()
        read = watch(self.node.read(0, 512))
        self.serving.wait(4.8)
        self.assertEqual(([], LinkState.INTERRUPTED), (read, self.node.link))
        self.serving.wait(0.4)
        self.assertIs(LinkState.AWAY, self.node.link)
        self.assertIsInstance(read[0], Unavailable)
        self.assertIn("did not come back within 5 s", str(read[0]))
        self.assertIn("refused", str(read[0]))
        self.failureResultOf(self.node.read(0, 512), Unavailable)

    def test_keeps_trying(self) -> None:
        """A node that is away comes back by itself, after any time."""
        self.serving.endpoint.refusing = True
        self.serving.endpoint.pipe.cut()
        self.serving.wait(3600, step_s=1.0)
        self.assertIs(LinkState.AWAY, self.node.link)
        self.serving.endpoint.refusing = False
        self.serving.wait(14)
        self.assertIs(LinkState.READY, self.node.link)
        self.assertEqual(bytes(512), bytes(self.serving.result(self.node.read(0, 512))))

    def test_other_incarnation(self) -> None:
        """If the device may have lost what was not flushed, nothing is sent again: it fails and says so."""
        self.serving.device.hold()
        written = watch(self.node.write(0, b"x" * 512))
        self.serving.turn()
        links = []
        self.node.observe(lambda node: links.append((node.link, node.incarnation)))
        before = self.node.incarnation
        self.serving.device.pull()
        self.serving.device.plug_in(new_incarnation=True)
        self.serving.wait(2.0)
        self.assertIsInstance(written[0], Unavailable)
        self.assertIs(LinkState.READY, self.node.link)
        self.assertNotEqual(before, self.node.incarnation)
        self.assertEqual((LinkState.READY, self.node.incarnation), links[-1])
        self.assertEqual([], asked(self.serving, WRITES))

    def test_other_incarnation_after_restart(self) -> None:
        """The same when the server lost its power and came back within the resend time."""
        self.serving.device.hold()
        written = watch(self.node.write(0, b"x" * 512))
        self.serving.turn()
        self.serving.restart_server()
        other = MemoryDevice(self.serving.clock, "vol", 1 << 20)
        other.open()
        self.serving.exports.nodes["vol"] = other
        self.serving.wait(1.0)
        self.assertEqual([IncarnationChanged], [type(error) for error in written])
        self.assertEqual(bytes(512), bytes(self.serving.result(other.read(0, 512))))

    def test_export_away(self) -> None:
        """While the server cannot use the device the node is interrupted, then away, with the server's words."""
        self.serving.device.pull(reason="its cable was pulled")
        self.serving.wait(0.5)
        self.assertIs(LinkState.INTERRUPTED, self.node.link)
        self.serving.wait(6)
        self.assertIs(LinkState.AWAY, self.node.link)
        self.assertIn("its cable was pulled", self.node.reason)
        self.serving.device.plug_in()
        self.serving.wait(14)
        self.assertIs(LinkState.READY, self.node.link)

    def test_no_such_export(self) -> None:
        """A name that is not exported keeps the node away with the server's words; it may be exported later."""
        node = self.serving.open_node(export="nothing")
        self.assertEqual((LinkState.AWAY, "there is no export 'nothing' here"), (node.link, node.reason))
        self.serving.exports.nodes["nothing"] = self.serving.device
        self.serving.wait(2.0)
        self.assertIs(LinkState.READY, node.link)

    def test_absent_at_first(self) -> None:
        """C{open} of a node whose server is not there fires, and the node says why it is away."""
        self.serving.endpoint.refusing = True
        node = self.serving.open_node("other")
        self.assertIs(LinkState.AWAY, node.link)
        self.assertIn("refused", node.reason)
        tree = node.status()
        self.assertEqual((Health.FAILED, "away", node.reason), (tree.health, tree.state, tree.reason))

    def test_silent_server(self) -> None:
        """A server that says nothing any more is noticed by its silence, in less time than the resend time."""
        self.serving.endpoint.pipe.stall()
        self.serving.wait(4.8)
        self.assertEqual(2, len(self.serving.endpoint.pipes))
        self.assertIs(LinkState.READY, self.node.link)
        self.assertFalse(self.serving.endpoint.pipes[0].client.connected)

    def test_server_that_never_answers_hello(self) -> None:
        """Nor does one that accepts and never answers keep the node from trying again."""
        self.serving.endpoint.pipe.cut()
        self.serving.turn()
        accept = self.serving.endpoint.server

        def deaf() -> Any:
            self.serving.clock.callLater(0, lambda: self.serving.endpoint.pipe.stall())
            return accept()

        self.serving.endpoint.server = deaf
        count = len(self.serving.endpoint.pipes)
        self.serving.wait(20)
        self.assertGreater(len(self.serving.endpoint.pipes), count + 1)
        self.assertIs(LinkState.AWAY, self.node.link)

    def test_hangs_up_at_once(self) -> None:
        """A server that accepts and hangs up is tried ever more slowly."""
        serving = Serving(limits=Limits(connections_max=0))
        node = serving.open_node()
        self.assertIn("the most it takes", node.reason)
        serving.wait(120, step_s=0.1)
        self.assertLess(len(serving.endpoint.pipes), 45)
        self.assertGreater(len(serving.endpoint.pipes), 8)


class DeadlineTests(SynchronousTestCase):
    """A device that answers too late."""

    def setUp(self) -> None:
        self.serving = Serving()
        self.node = self.serving.open_node(deadline_s=3.0)
        self.device = self.serving.device

    def test_read(self) -> None:
        """A read that is not answered in time fails alone; the connection and everything else goes on."""
        self.device.hold("read")
        read = watch(self.node.read(0, 512))
        self.serving.wait(4.0)
        self.assertIsInstance(read[0], DeadlinePassed)
        self.assertEqual(LinkState.READY, self.node.link)
        self.serving.result(self.node.write(0, b"x" * 512))
        self.assertEqual(1, len(self.serving.endpoint.pipes))

    def test_late_answer(self) -> None:
        """The answer that comes later is taken off the stream with its data, and the next one is understood."""
        self.device.hold("read")
        late = watch(self.node.read(0, 4096))
        self.serving.wait(4.0)
        self.device.release()
        self.serving.turn()
        self.assertEqual([DeadlinePassed], [type(error) for error in late])
        self.serving.result(self.node.write(0, b"x" * 512))
        self.assertEqual(b"x" * 512, bytes(self.serving.result(self.node.read(0, 512))))
        self.assertEqual(1, len(self.serving.endpoint.pipes))

    def test_write_is_never_executed_after_it_failed(self) -> None:
        """
        A write that failed by its deadline cannot overwrite one that was made after it: the connection is cut
        with it, and there is no new one before the server has done with the old one.
        """
        self.device.hold("write")
        late = watch(self.node.write(0, b"old" * 512))
        self.serving.wait(4.0)
        self.assertEqual([DeadlinePassed], [type(error) for error in late])
        newer = watch(self.node.write(0, b"new" * 512))
        self.serving.wait(1.0)
        self.assertIs(LinkState.INTERRUPTED, self.node.link)
        self.assertEqual([], newer)
        self.device.release()
        self.serving.wait(3.0)
        self.assertEqual([None], newer)
        self.assertEqual(b"new" * 512, bytes(self.serving.result(self.serving.memory.read(0, 1536))))

    def test_others_survive_the_cut(self) -> None:
        """What else was in flight is sent again."""
        self.device.hold("write")
        watch(self.node.write(0, b"old" * 512))
        self.serving.wait(2.0)
        self.device.hold("read write")
        read = watch(self.node.read(0, 512))
        self.serving.wait(2.0)
        self.device.release()
        self.serving.wait(2.0)
        self.assertEqual(b"old" * 170, bytes(read[0])[:510])


class LimitTests(SynchronousTestCase):
    """No more is sent than the server allows."""

    def in_flight(self, serving: Serving, most: int = 1 << 30) -> int:
        return len(serving.device.held)

    def test_requests(self) -> None:
        """Above the number that the server allows requests wait, and all are done in the end."""
        serving = Serving(limits=Limits(requests_max=4))
        node = serving.open_node()
        serving.device.hold("read")
        reads = [watch(node.read(n * 512, 512)) for n in range(20)]
        serving.turn()
        self.assertEqual(4, len(asked(serving, frozenset({int(Operation.READ)}))))
        serving.device.release()
        serving.turn(100)
        self.assertEqual([1] * 20, [len(read) for read in reads])
        self.assertEqual([n * 512 for n in range(20)], [offset for _, _, offset in asked(serving, READS_AND_WRITES)])

    def test_bytes(self) -> None:
        """The same for bytes; and one request larger than the limit goes alone."""
        serving = Serving(limits=Limits(bytes_max=8192))
        node = serving.open_node()
        serving.device.hold("write")
        writes = [watch(node.write(0, bytes(4096))) for _ in range(5)]
        writes.append(watch(node.write(0, bytes(65536))))
        serving.turn()
        self.assertEqual(2, len(asked(serving, WRITES)))
        for _ in range(6):
            serving.device.release(1)
            serving.turn()
        serving.device.release()
        serving.turn(100)
        self.assertEqual([[None]] * 6, writes)

    def test_server_that_does_not_read(self) -> None:
        """While the server does not read, what is asked waits here and not in the connection."""
        serving = Serving(capacity_bytes=10_000)
        node = serving.open_node(keepalive_s=100.0)
        pipe = serving.endpoint.pipe
        pipe.server.pauseProducing()
        for n in range(100):
            node.write(n * 4096, bytes(4096))
            serving.turn(2)
        self.assertLess(pipe.client.unread_bytes, 40_000)
        pipe.server.resumeProducing()
        serving.turn(500)
        self.assertEqual(100, serving.device.counts["write"])


class DamageTests(SynchronousTestCase):
    """Bits that flip on the way."""

    def setUp(self) -> None:
        self.serving = Serving()
        self.node = self.serving.open_node(keepalive_s=1000.0, status_s=1000.0)
        self.serving.turn()

    def flip(self, sender: Any, times: int, position: int) -> None:
        """Damage the next C{times} pieces that are sent in one direction, at a position counted from the end."""
        deliver = sender.deliver
        left = times

        def damaged() -> None:
            nonlocal left
            if left and sender.buffer:
                left -= 1
                sender.buffer[position] ^= 4
            deliver()

        sender.deliver = damaged

    def test_write(self) -> None:
        """Damaged data of a write is not written; the write is sent again and is not lost."""
        self.flip(self.serving.endpoint.pipe.client, 1, -1)
        self.serving.result(self.node.write(0, b"x" * 512))
        self.assertEqual(2, len(asked(self.serving, WRITES)))
        self.assertEqual(1, self.serving.device.counts["write"])
        self.assertEqual(b"x" * 512, bytes(self.serving.result(self.serving.memory.read(0, 512))))
        self.assertEqual(1, len(self.serving.endpoint.pipes))

    def test_read(self) -> None:
        """Damaged data of an answer is not given to anybody; it is asked for again."""
        self.serving.result(self.node.write(0, b"x" * 512))
        self.flip(self.serving.endpoint.pipe.server, 1, -1)
        self.assertEqual(b"x" * 512, bytes(self.serving.result(self.node.read(0, 512))))
        self.assertEqual(2, self.serving.device.counts["read"])

    def test_always(self) -> None:
        """If every transfer is damaged the request fails, and says what is wrong."""
        self.flip(self.serving.endpoint.pipe.client, 100, -1)
        error = self.assertRaises(CorruptData, self.serving.result, self.node.write(0, b"x" * 512))
        self.assertEqual("the data of a request arrived damaged 4 times; the network needs repair", error.message)
        self.assertEqual(0, self.serving.device.counts["write"])

    def test_header(self) -> None:
        """A damaged header costs the connection, in either direction, and no request."""
        for side in ("client", "server"):
            count = len(self.serving.endpoint.pipes)
            self.flip(getattr(self.serving.endpoint.pipe, side), 1, 20)
            self.serving.result(self.node.write(0, b"x" * 512), seconds=10)
            self.assertEqual(count + 1, len(self.serving.endpoint.pipes))
            self.serving.wait(1.0)

    def test_damaged_media_is_not_asked_again(self) -> None:
        """That the media is damaged is an answer like any other."""
        self.serving.device.fail_next("read", CorruptData("the checksum at rest does not match"))
        error = self.assertRaises(CorruptData, self.serving.result, self.node.read(0, 512))
        self.assertEqual("the checksum at rest does not match", error.message)
        self.assertEqual(1, self.serving.device.counts["read"])


class ErrorTests(SynchronousTestCase):
    def test_media_errors_arrive(self) -> None:
        """Whatever error the device has, of whatever operation, is the error here, with its sentence."""
        serving = Serving()
        node = serving.open_node()
        for error in (MediaError("bad sector 7"), NoSpace("the disk is full"), CorruptData("rotten")):
            for kind, ask in {
                "read": lambda: node.read(0, 512),
                "write": lambda: node.write(0, bytes(512)),
                "flush": node.flush,
                "trim": lambda: node.trim(0, 512),
                "write_zeroes": lambda: node.write_zeroes(0, 512),
                "block_status": lambda: node.block_status(0, 512),
                "checksums": lambda: node.checksums(0, 512, 512),
            }.items():
                serving.device.fail_next(kind, error)
                raised = self.assertRaises(type(error), serving.result, ask())
                self.assertEqual(error.message, raised.message)

    def test_server_without_checksums_of_blocks(self) -> None:
        """A server of an older release is not asked for what it does not have."""
        serving = Serving()
        serving.server.terms = evolve(serving.server.terms, features=int(Feature.CHECKSUMS))
        node = serving.open_node()
        self.assertRaises(NotSupported, serving.result, node.checksums(0, 4096, 4096))
        self.assertEqual(0, serving.device.counts["checksums"])

    def test_flush_reaches_the_device(self) -> None:
        """A flush is answered when the device has flushed, not before."""
        serving = Serving()
        node = serving.open_node()
        serving.device.hold("flush")
        flushed = watch(node.flush())
        serving.wait(1.0)
        self.assertEqual([], flushed)
        serving.device.release()
        serving.turn()
        self.assertEqual(([None], 1), (flushed, serving.device.counts["flush"]))

    def test_flags_reach_the_device(self) -> None:
        """FUA is FUA at the other end."""
        serving = Serving()
        node = serving.open_node()
        serving.result(node.write(0, bytes(512), fua=True))
        serving.result(node.write(0, bytes(512)))
        serving.result(node.write_zeroes(0, 512, fua=True))
        self.assertEqual([True, False, True], [operation.fua for operation in serving.device.history])


class StatusTests(SynchronousTestCase):
    def test_subtree(self) -> None:
        """The status of the remote device hangs below that of the node, and follows it."""
        serving = Serving()
        node = serving.open_node()
        serving.turn()
        tree = node.status()
        self.assertEqual(("r", "remote", Health.HEALTHY, "ready"), (tree.name, tree.kind, tree.health, tree.state))
        (child,) = tree.children
        self.assertEqual(("vol", "faulty", Health.HEALTHY), (child.name, child.kind, child.health))
        serving.device.pull(LinkState.INTERRUPTED, "its cable was pulled")
        serving.wait(2.5)
        (child,) = node.status().children
        self.assertEqual("its cable was pulled", child.reason)

    def test_nothing_stale(self) -> None:
        """While the node is not ready nothing is told of what is behind it."""
        serving = Serving()
        node = serving.open_node()
        serving.turn()
        serving.endpoint.pipe.cut()
        serving.turn()
        self.assertEqual((), node.status().children)

    def test_one_question_at_a_time(self) -> None:
        """The status is asked for every few seconds, however long that goes."""
        serving = Serving()
        serving.open_node(status_s=2.0)
        serving.wait(20.5)
        self.assertEqual(11, len(asked(serving, frozenset({int(Operation.STATUS)}))))

    def test_close_during_question(self) -> None:
        """A node that is closed while it asks for the status asks no more."""
        serving = Serving()
        node = serving.open_node()
        serving.endpoint.pipe.stall()
        serving.wait(0.5)
        node.close()
        serving.wait(2.0)
        serving.endpoint.pipe.cut()
        serving.turn()
        self.assertEqual([], serving.clock.getDelayedCalls())

    def test_size_changes_while_connected(self) -> None:
        """A device that grows is noticed without a new connection."""
        serving = Serving()
        node = serving.open_node()
        serving.memory.changed(geometry=serving.memory.geometry.evolve(size=2 << 20))
        serving.turn()
        self.assertEqual(2 << 20, node.geometry.size)
        self.assertEqual(1, len(serving.endpoint.pipes))
