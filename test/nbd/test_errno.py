"""Tests of L{dst.nbd.errno}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dst.errors import DSTError, MediaError
from dst.nbd import constants as nbd
from dst.nbd.errno import errno_for, error_from_errno
from dst.status import Status

DEFINED = {
    nbd.EPERM,
    nbd.EIO,
    nbd.ENOMEM,
    nbd.EINVAL,
    nbd.ENOSPC,
    nbd.EOVERFLOW,
    nbd.ENOTSUP,
    nbd.ESHUTDOWN,
}


class ErrnoTests(SynchronousTestCase):
    """Both ways."""

    def test_every_status(self) -> None:
        """Every status but success has a number that the protocol defines."""
        for status in set(Status) - {Status.OK}:
            for changing in (False, True):
                self.assertIn(errno_for(status, changing=changing), DEFINED, status)

    def test_beyond_the_end(self) -> None:
        """Beyond the end a write has no space, and a read no meaning."""
        self.assertEqual(nbd.ENOSPC, errno_for(Status.OUT_OF_BOUNDS, changing=True))
        self.assertEqual(nbd.EINVAL, errno_for(Status.OUT_OF_BOUNDS, changing=False))

    def test_round_trip(self) -> None:
        """A number that arrives becomes an error that would leave as the same number."""
        for errno in DEFINED - {nbd.EOVERFLOW, nbd.ESHUTDOWN}:
            error = error_from_errno(errno, "", "far: read of 0+512")
            self.assertEqual(errno, errno_for(error.status, changing=False), error)

    def test_unknown(self) -> None:
        """A number that the protocol does not define is an error all the same, and the sentence has it."""
        error: DSTError = error_from_errno(123, "", "far: read of 0+512")
        self.assertIsInstance(error, MediaError)
        self.assertIn("123", error.message)
