"""
How the demo is shown: as it happens in a terminal, line by line elsewhere, and as one value for scripts.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click
from attrs import frozen

from dst.admin.tools import console
from dst.words import printable

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

__all__ = ["Check", "Teller"]

_INDENT = "   "
_TEXT_CELLS_MIN = 30
_LINE_CELLS_MAX = 110


@frozen
class Check:
    """Something that had to be true."""

    name: str
    good: bool
    sentence: str


class Teller:
    """
    @ivar checks: what was looked at, and how it was.
    """

    def __init__(self, *, quiet: bool, now: Callable[[], float] = time.monotonic) -> None:
        """
        @param quiet: keep everything, show nothing.
        """
        self.checks: list[Check] = []
        self._quiet = quiet
        self._now = now
        self._began = now()
        self._act = 0
        self._screen = console(sys.stdout)
        self._live: Live | None = None
        self._drawn: Sequence[Text] = ()

    @property
    def animated(self) -> bool:
        """Whether what L{show} is given is seen."""
        return self._live is not None

    @property
    def width(self) -> int:
        """Cells of a line."""
        return self._screen.width

    @property
    def ascii_only(self) -> bool:
        """Whether the screen cannot show more."""
        return not self._screen.encoding.lower().startswith("utf")

    def __enter__(self) -> Teller:
        if self._screen.is_terminal and not self._quiet:
            from rich.live import Live

            self._live = Live(console=self._screen, auto_refresh=False, transient=True, vertical_overflow="crop")
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()

    def act(self, title: str) -> None:
        """Something new begins."""
        self._act += 1
        if self._act > 1:
            self._print("")
        self._print(f"{self._act}. {title}", "bold")

    def say(self, sentence: str, style: str = "") -> None:
        """What happens."""
        for line in self._wrapped(printable(sentence)):
            self._print(_INDENT + line, style)

    def command(self, text: str) -> None:
        """What a person would type to do the same."""
        self._print(f"{_INDENT}$ {text}", "cyan")

    def check(self, name: str, good: bool, sentence: str) -> None:
        """Something had to be true, and is or is not."""
        self.checks.append(Check(name, good, sentence))
        mark, style = ("[ok]" if self.ascii_only else "✓", "green") if good else ("[WRONG]", "bold red")
        lines = self._wrapped(printable(sentence))
        self._print(f"{_INDENT}{mark} {lines[0]}", style)
        for line in lines[1:]:
            self._print(f"{_INDENT}{' ' * len(mark)} {line}", style)

    def show(self, lines: Sequence[Text]) -> None:
        """What is drawn below all that was said, in place of what was drawn there before."""
        if self._live is not None:
            from rich.console import Group
            from rich.text import Text

            self._drawn = lines
            self._live.update(Group(Text(""), *lines), refresh=True)

    def clear(self) -> None:
        """Draw nothing below any more."""
        self.show(())

    def _wrapped(self, sentence: str) -> list[str]:
        import textwrap

        if not self._screen.is_terminal:
            return [sentence]
        room = max(_TEXT_CELLS_MIN, min(self.width, _LINE_CELLS_MAX) - len(_INDENT) - 2)
        return textwrap.wrap(sentence, room, break_on_hyphens=False) or [""]

    def _print(self, line: str, style: str = "") -> None:
        if self._quiet:
            return
        if self._live is not None:
            self._screen.print(line, style=style, soft_wrap=True)
        elif self._screen.is_terminal:
            click.echo(line)
        else:
            stamp = f"{self._now() - self._began:6.1f} s  " if line else ""
            click.echo(stamp + line)
            sys.stdout.flush()
