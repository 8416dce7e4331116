"""
The part of the manual that lists every command of C{dst} with its options: made from the commands themselves.

    python -m dst.admin.cli_manual docs
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import click

__all__ = ["FILE_NAME", "commands_of", "manual"]

FILE_NAME = "cli_table.inc"

Words: TypeAlias = tuple[str, ...]


def commands_of(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command below C{command} and itself, with the words that lead to it, in the order of the alphabet."""
    yield path, command
    if isinstance(command, click.Group):
        for name in sorted(command.commands):
            yield from commands_of(command.commands[name], (*path, name))


def manual(root: click.Group) -> str:
    """The text of C{docs/cli_table.inc}."""
    parts = [".. Made by `python -m dst.admin.cli_manual docs` from the commands.\n"]
    seen: dict[int, str] = {}
    for path, command in commands_of(root):
        if isinstance(command, click.Group):
            continue
        words = " ".join(("dst", *path))
        if id(command) in seen:
            parts.append(f"``{words}``\n    The same as ``{seen[id(command)]}``.\n")
            continue
        seen[id(command)] = words
        parts.append(_described(words, command))
    return "\n".join(parts)


def _described(words: str, command: click.Command) -> str:
    usage = [words, *(_argument(each) for each in command.params if isinstance(each, click.Argument))]
    text = inspect.cleandoc(command.help or "").replace("\b\n", "")
    text = re.split(r"^(?:Examples?|Exit codes?):", text, maxsplit=1, flags=re.MULTILINE)[0].strip()
    lines = [f"``{' '.join(usage)}``", *(f"    {line}".rstrip() for line in _literal(text).split("\n")), ""]
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden:
            lines += [f"    ``{_option(option)}``", f"        {_literal(option.help or 'See above.')}", ""]
    return "\n".join(lines)


def _argument(argument: click.Argument) -> str:
    name = argument.metavar or argument.human_readable_name
    if argument.nargs == -1 and not name.endswith("..."):
        name += "..."
    return name if argument.required or name.startswith("[") else f"[{name}]"


def _option(option: click.Option) -> str:
    names = ", ".join(sorted(option.opts, key=len))
    if option.is_flag:
        return names
    if option.metavar:
        return f"{names} {option.metavar}"
    if isinstance(option.type, click.Choice):
        return f"{names} {'|'.join(map(str, option.type.choices))}"
    return f"{names} {option.type.name.upper().partition(' ')[0]}"


def _literal(text: str) -> str:
    """A help text as reST: what stands in backticks is literal, and nothing else is markup."""
    text = re.sub(r"`([^`]+)`", r"``\1``", text)
    return re.sub(r"(?<!\*)\*(?!\*)", r"\\*", text)


def main() -> None:
    """Write the file into the directory that is named."""
    from dst.admin.cli import cli

    assert isinstance(cli, click.Group)
    (Path(sys.argv[1]) / FILE_NAME).write_text(manual(cli))


if __name__ == "__main__":
    main()
