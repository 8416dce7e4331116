"""The manual and the help of C{dst}, checked against the commands there are."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
from twisted.trial.unittest import SynchronousTestCase

from dst.admin.cli import cli
from dst.admin.cli_manual import FILE_NAME, commands_of, manual
from dst.admin.tools import EXIT_CODES

DOCS = Path(__file__).resolve().parents[2] / "docs"

ELSEWHERE = {"ca", "join", "token"}
"""Described in C{security.rst}."""

_SHELL_ENDS = {"|", ">", "<", "||", "&&", "&", ";", ">>", "2>&1"}
_PLACEHOLDERS = {"...", "…", "COMMAND"}


def wrong_with(line: str) -> str | None:
    """
    What is wrong with a command line that begins with C{dst}, as far as commands and options go.
    """
    try:
        words = shlex.split(line.replace("[", " ").replace("]", " "), comments=True)[1:]
    except ValueError as error:
        return f"{line}: {error}"
    command: click.Command = cli
    options = {name for parameter in cli.params for name in (*parameter.opts, *parameter.secondary_opts)}
    skip = False
    for word in words:
        if word in _SHELL_ENDS or word.endswith(";"):
            break
        if skip:
            skip = False
        elif word.startswith("-") and word != "-":
            name = word.partition("=")[0].rstrip(",")
            if name in ("--help", "-h"):
                continue
            if name not in options:
                return f"{line}: `{command.name}` has no option {name}"
            owner = [each for each in (*command.params, *cli.params) if name in each.opts]
            skip = not (isinstance(owner[0], click.Option) and owner[0].is_flag) and "=" not in word
        elif isinstance(command, click.Group):
            if word in _PLACEHOLDERS:
                return None
            if word not in command.commands:
                return f"{line}: `{command.name or 'dst'}` has no command {word}"
            command = command.commands[word]
            options |= {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return None


def lines_in_help(text: str) -> Iterator[str]:
    """The command lines among the examples of a help text."""
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("dst "):
            yield re.split(r"\s{3,}", stripped)[0]


def lines_in_manual(text: str) -> Iterator[str]:
    """The command lines in a page: literals, and lines of blocks."""
    for literal in re.findall(r"``(dst [^`]+)``", text):
        yield " ".join(literal.split())
    for line in text.splitlines():
        stripped = line.strip().removeprefix("$ ")
        if line.startswith((" ", "\t")) and re.match(r"dst (-|[a-z])", stripped):
            yield re.split(r"\s{3,}", stripped)[0]


class ManualTests(SynchronousTestCase):
    """C{docs/*.rst}"""

    def test_reference(self) -> None:
        """The list of commands and options is that of the commands there are."""
        self.assertEqual(
            manual(cli),
            (DOCS / FILE_NAME).read_text(),
            "make it again: python -m dst.admin.cli_manual docs",
        )

    def test_every_group(self) -> None:
        """What can be done stands in the text, too, and not only in the list."""
        text = " ".join((DOCS / "cli.rst").read_text().split())
        missing = [name for name in cli.commands if name not in ELSEWHERE and f"dst {name}" not in text]
        self.assertEqual([], missing)

    def test_every_line(self) -> None:
        """What the manual tells to type is understood."""
        wrong = []
        count = 0
        for page in sorted(DOCS.glob("*.rst")):
            for line in lines_in_manual(page.read_text()):
                count += 1
                found = wrong_with(line)
                if found is not None:
                    wrong.append(f"{page.name}: {found}")
        self.assertEqual([], wrong)
        self.assertGreater(count, 60)

    def test_exit_codes(self) -> None:
        """The manual's table has the exit codes and their meanings."""
        text = " ".join((DOCS / "cli.rst").read_text().split())
        for code, meaning in EXIT_CODES.items():
            self.assertIn(f"{code} {meaning}".replace("`", "``"), text)


class HelpTests(SynchronousTestCase):
    """C{--help}"""

    def test_examples(self) -> None:
        """Every command has an example, and what examples tell to type is understood."""
        wrong = []
        for path, command in commands_of(cli):
            lines = list(lines_in_help(command.help or ""))
            if not lines and "dst" not in (command.help or ""):
                wrong.append(f"{' '.join(path)}: no example")
            wrong.extend(found for found in map(wrong_with, lines) if found is not None)
        self.assertEqual([], wrong)

    def test_short(self) -> None:
        """In the list of commands nothing is cut."""
        context = click.Context(cli)
        for _, command in commands_of(cli):
            if isinstance(command, click.Group):
                for name, each in command.commands.items():
                    self.assertNotIn("...", each.get_short_help_str(100), name)
        self.assertIn("Exit codes", cli.get_help(context))

    def test_finds_mistakes(self) -> None:
        """The check itself sees what is wrong."""
        for line in ("dst explode", "dst status --fast", "dst storage explode vol", "dst export list --plan"):
            self.assertIsNotNone(wrong_with(line), line)
        for line in (
            "dst --url http://b:2 status vol --json | jq .",
            "dst storage create v a=file:/x?size=1 --export",
        ):
            self.assertIsNone(wrong_with(line), line)
