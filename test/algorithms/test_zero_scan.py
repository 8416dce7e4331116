"""Tests of L{dst.algorithms.zero_scan}."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dst.algorithms import zero_scan
from dst.algorithms.zero_scan import all_zero
from dst.errors import MediaError
from dst.testing import FaultyDevice, SimulatedDisk, SimulatedMedia

SIZE = 5 << 20


class AllZeroTests(SynchronousTestCase):
    """Does media hold anything?"""

    def device(self, *written: tuple[int, bytes], size: int = SIZE) -> FaultyDevice:
        clock = Clock()
        media = SimulatedMedia(size)
        for offset, data in written:
            media.write(offset, data)
        device = FaultyDevice(clock, SimulatedDisk(clock, "d", media))
        device.open()
        return device

    def ask(self, *devices: FaultyDevice) -> bool:
        return self.successResultOf(Deferred.fromCoroutine(all_zero(devices)))

    def test_blank(self) -> None:
        """Blank media is, however large, and none of it is read."""
        device = self.device(size=1 << 32)
        self.assertTrue(self.ask(device, self.device()))
        self.assertEqual(0, device.counts["read"])

    def test_written_zeroes(self) -> None:
        """Zeroes that were written are read and seen to be zeroes."""
        device = self.device((0, bytes(3 << 20)), (SIZE - 1, b"\0"))
        self.assertTrue(self.ask(device))
        self.assertGreater(device.counts["read"], 2)

    def test_one_byte(self) -> None:
        """One byte anywhere, on any of them, is something."""
        for at in (0, 1, (1 << 20) - 1, 1 << 20, SIZE // 2 + 7, SIZE - 1):
            self.assertFalse(self.ask(self.device((at, b"\1"))), at)
            self.assertFalse(self.ask(self.device(), self.device((0, bytes(SIZE)), (at, b"\x80"))), at)

    def test_too_much_to_read(self) -> None:
        """Beyond a limit nothing is assumed: it counts as something, and a person is asked."""
        self.patch(zero_scan, "ZERO_SCAN_BYTES_MAX", 2 << 20)
        self.assertTrue(self.ask(self.device((0, bytes(2 << 20)))))
        self.assertFalse(self.ask(self.device((0, bytes((2 << 20) + 1)))))

    def test_error(self) -> None:
        """Media that cannot be read is not taken for blank."""
        device = self.device((0, bytes(4096)))
        device.fail_next("read", MediaError("worn out"))
        self.failureResultOf(Deferred.fromCoroutine(all_zero([device])), MediaError)
