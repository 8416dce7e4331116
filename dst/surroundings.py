"""
What a process finds around it besides time and the network: chance, the calendar, and its own files.

Everything in DST that needs one of these asks the reactor that it was given, because that is what
says in which world it lives::

    surroundings_of(reactor).entropy(16)

An ordinary reactor is in the real one.  A simulated one provides L{ISurroundings} itself, so that a whole
cluster can be run a second time, byte for byte as the first.
"""

from __future__ import annotations

import os
import time
from random import Random

from zope.interface import Attribute, Interface, implementer

__all__ = ["REAL", "ISurroundings", "surroundings_of"]


class ISurroundings(Interface):
    """Provided by a reactor whose world is not the real one."""

    state_files: object = Attribute(
        """
        C{None}, or a callable that is given the absolute path of a directory and returns where its files are kept
        instead (see C{dst.recovery.state_files}).
        """
    )

    def entropy(count: int) -> bytes:
        """C{count} bytes that nobody else has: identities and tags are made of them."""

    def random() -> Random:
        """Chance that need not be a secret: jitter, sampling.  A new one each time."""

    def wall_clock_s() -> float:
        """Seconds of the epoch, for people.  May jump; nothing is decided by it."""

    def boot_clock_s() -> float:
        """Seconds on a clock that never jumps and goes on while the machine is suspended: for leases."""


@implementer(ISurroundings)
class _Real:
    """The real world."""

    state_files = None

    def entropy(self, count: int) -> bytes:
        """See L{ISurroundings.entropy}."""
        return os.urandom(count)

    def random(self) -> Random:
        """See L{ISurroundings.random}."""
        return Random()

    def wall_clock_s(self) -> float:
        """See L{ISurroundings.wall_clock_s}."""
        return time.time()

    def boot_clock_s(self) -> float:
        """See L{ISurroundings.boot_clock_s}."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)


REAL = _Real()


def surroundings_of(reactor: object) -> ISurroundings:
    """What is around the process that C{reactor} runs."""
    return ISurroundings(reactor, REAL)
