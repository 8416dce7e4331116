"""
The log in a file that others may rename or cut short while it is written: C{--log-file}.

C{twistd --logfile} rotates its file itself at every megabyte and keeps all of them; C{logrotate} has another opinion
of both.  So this one does nothing but append; and on SIGUSR1 it opens its path again, which is what C{logrotate} has
to tell a program whose file it has renamed.  What is written before that goes to the renamed file: no line is lost.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Final, TextIO

from twisted.logger import ILogObserver, Logger, jsonFileLogObserver, textFileLogObserver

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LogFile", "observer_of"]

_log = Logger()

FILE_MODE: Final = 0o640
"""A log names addresses and clients; it is for the administrator and those in the file's group."""


class LogFile:
    """
    A file that is appended to.

    @ivar path: where it is; whatever is there when it is opened again is what is written to from then on.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor = _opened(path)

    def write(self, text: str) -> None:
        """Append C{text}; a file that cannot be written, on a full disk, is no reason to stop serving."""
        data = text.encode("utf-8", "backslashreplace")
        try:
            os.write(self._descriptor, data)
        except OSError as error:
            print(f"dst: {self.path}: {error.strerror}", file=sys.__stderr__)

    def flush(self) -> None:
        """What was written has left this process already."""

    def reopen(self) -> None:
        """Go on in whatever is at the path now; if nothing can be opened there, in the file of before."""
        try:
            descriptor = _opened(self.path)
        except OSError as error:
            self.write(f"dst: {self.path} cannot be opened again: {error.strerror}\n")
            return
        os.dup2(descriptor, self._descriptor, inheritable=False)
        os.close(descriptor)

    def close(self) -> None:
        """Nothing is written any more."""
        os.close(self._descriptor)


def _opened(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)


def observer_of(path: str, log_format: str, handle: Callable[[int, Any], object] = signal.signal) -> ILogObserver:
    """
    What writes the log to C{path}, and opens it again on SIGUSR1.

    @param log_format: C{"text"} or C{"json"}.
    @param handle: installs the handler of a signal.
    @raise OSError: nothing can be written there.
    """
    file = LogFile(os.path.abspath(path))
    handle(signal.SIGUSR1, lambda *_: file.reopen())
    stream: TextIO = file  # type: ignore[assignment]  # all that an observer does is to write and to flush
    if log_format == "json":
        return jsonFileLogObserver(stream, recordSeparator="")
    return textFileLogObserver(stream)
