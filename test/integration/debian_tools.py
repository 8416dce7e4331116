"""
Programs of Debian that some tests need.

C{debian-packages.txt}, beside this module, names the packages, one a line, for whoever sets up a machine; here is
which program is in which, so that a test that cannot run says what to install.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, TestCase

__all__ = ["ENVIRONMENT", "TOOLS", "Server", "needs", "run"]

TOOLS: Final = {
    "dpkg-deb": "dpkg",
    "e2fsck": "e2fsprogs",
    "fio": "fio",
    "fusermount3": "fuse3",
    "groff": "groff",
    "ip": "iproute2",
    "logrotate": "logrotate",
    "losetup": "mount",
    "man": "man-db",
    "mkfs.ext4": "e2fsprogs",
    "mount": "mount",
    "nbd-server": "nbd-server",
    "nbdcopy": "libnbd-bin",
    "nbdfuse": "libnbd-bin",
    "nbdinfo": "libnbd-bin",
    "nbdkit": "nbdkit",
    "nbdsh": "python3-libnbd",
    "promtool": "prometheus",
    "qemu-img": "qemu-utils",
    "qemu-io": "qemu-utils",
    "qemu-nbd": "qemu-utils",
    "qemu-storage-daemon": "qemu-system-common",
    "systemd-analyze": "systemd",
    "virt-xml-validate": "libvirt-clients",
}
"""Program -> the package that has it."""

RUN_S_MAX: Final = 60.0
"""A program that takes longer hangs."""

ENVIRONMENT: Final = {**os.environ, "PATH": f"/usr/bin:/bin:{os.environ.get('PATH', '')}"}
"""Debian's programs want Debian's Python, not that of the tests."""

START_STEPS_MAX: Final = 400
"""How often a server's socket is looked for, 25 ms apart."""


def needs(*tools: str) -> Callable[[Any], Any]:
    """Decorate a test method or class: skip it by name where one of C{tools} is missing."""

    def decorate(test: Any) -> Any:
        for tool in tools:
            if shutil.which(tool) is None:
                test.skip = f"{tool} is missing; it is in the Debian package {TOOLS[tool]}"
        return test

    return decorate


class _Output(ProcessProtocol):
    def __init__(self) -> None:
        self.out = bytearray()
        self.err = bytearray()
        self.ended: Deferred[int] = Deferred()

    def outReceived(self, data: bytes) -> None:
        self.out += data

    def errReceived(self, data: bytes) -> None:
        self.err += data

    def processEnded(self, reason: Failure) -> None:
        code = 0 if reason.check(ProcessDone) else getattr(reason.value, "exitCode", None)
        self.ended.callback(-1 if code is None else code)


async def run(*command: str, expect: int | None = 0) -> str:
    """
    Run a program to its end.

    @param expect: the exit code without which this fails; C{None} for any.
    @return: what it printed; with another exit code expected, also its complaints.
    """
    output = _Output()
    process = reactor.spawnProcess(output, shutil.which(command[0]) or command[0], command, ENVIRONMENT)
    limit = reactor.callLater(RUN_S_MAX, process.signalProcess, "KILL")
    code = await output.ended
    if limit.active():
        limit.cancel()
    if expect is not None and code != expect:
        said = (output.err or output.out).decode(errors="replace")
        raise AssertionError(f"{' '.join(command)} ended with {code}:\n{said}")
    return (output.out if expect == 0 else output.out + output.err).decode(errors="replace")


class Server:
    """A server process that listens on a UNIX socket, until the test ends."""

    def __init__(self, case: TestCase, path: str, *command: str, pid_file: str = "") -> None:
        """
        @param path: it has started when there is something here, and, if that is a socket, it can be connected to.
        @param pid_file: where a server that goes to the background writes its number.
        """
        self.path = path
        self._pid_file = pid_file
        self._output = _Output()
        program = shutil.which(command[0])
        if program is None:
            raise SkipTest(f"{command[0]} is missing; it is in the Debian package {TOOLS[command[0]]}")
        self._process = reactor.spawnProcess(self._output, program, command, ENVIRONMENT)
        case.addCleanup(self.stop)

    async def started(self) -> None:
        """Wait until it listens."""
        for _ in range(START_STEPS_MAX):
            if os.path.exists(self.path) and self._listens():
                return
            if self._output.ended.called and not self._pid_file:
                break
            await deferLater(reactor, 0.025)
        raise AssertionError(f"the server did not start: {self._output.err.decode(errors='replace')}")

    def _listens(self) -> bool:
        if not stat.S_ISSOCK(os.stat(self.path).st_mode):
            return True
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(self.path) == 0

    async def stop(self) -> None:
        """Kill it, and wait until it is dead."""
        if self._pid_file and os.path.exists(self._pid_file):
            with open(self._pid_file) as file:
                pid = int(file.read())
            os.unlink(self._pid_file)
            os.kill(pid, signal.SIGTERM)
        if not self._output.ended.called:
            with suppress(ProcessExitedAlready):  # it has, and we are about to hear of it
                self._process.signalProcess("KILL")
            await self._output.ended
