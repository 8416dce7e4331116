"""
Changing a TOML file as a person would: what is not concerned stays as it was written, comments and order too.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from typing import Any

import tomlkit
from tomlkit import TOMLDocument
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, InlineTable
from twisted.logger import Logger

from dst.cluster.document import Document

__all__ = ["edited_toml", "same_values"]

_log = Logger()


def edited_toml(text: str, document: Document) -> str:
    """
    C{text} with what has to change so that it says C{document}.

    Where that cannot be had, the whole text is written anew, and only then comments are lost.
    """
    try:
        parsed = tomlkit.parse(text)
        _change(parsed, tomllib.loads(text), document)
        result = tomlkit.dumps(parsed).rstrip("\n") + text[len(text.rstrip("\n")) :]
        if same_values(tomllib.loads(result), document):
            return result
    except (TOMLKitError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        _log.warn("the file cannot be edited in place ({error}); it is written anew", error=error)
    else:
        _log.warn("the file cannot be edited in place; it is written anew")
    return tomlkit.dumps(document)


def _change(table: Any, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Make C{table}, which says C{old}, say C{new}."""
    for key in [key for key in old if key not in new]:
        table.remove(key)
    for key, value in new.items():
        if key not in old:
            _add(table, key, value)
        elif not same_values(old[key], value):
            if isinstance(old[key], dict) and isinstance(value, dict):
                _change(table[key], old[key], value)
            elif isinstance(table[key], AoT) and _are_tables(value):
                _change_tables(table[key], old[key], value)
            elif isinstance(old[key], list) and isinstance(value, list) and _plain([*old[key], *value]):
                _change_list(table[key], old[key], value)
            else:
                if isinstance(table[key], AoT):
                    table.remove(key)  # its place is between tables, where a value of another kind cannot stand
                table[key] = _item(value)


def _add(table: Any, key: str, value: Any) -> None:
    if isinstance(value, dict) and not isinstance(table, InlineTable):
        made = tomlkit.table(_holds_tables_only(value))
        for below, each in value.items():
            _add(made, below, each)
        if value and not made.is_super_table():
            made.add(tomlkit.nl())
        table[key] = made
    elif isinstance(table, TOMLDocument) and _are_tables(value):
        table[key] = tomlkit.aot()
        _change_tables(table[key], [], value)
    else:
        table[key] = _item(value)


def _are_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


def _change_tables(tables: Any, old: list[dict[str, Any]], new: list[dict[str, Any]]) -> None:
    """C{[[hooks]]}: one after the other."""
    for index in range(len(old) - 1, len(new) - 1, -1):
        del tables[index]
    for index, value in enumerate(new):
        if index < len(old):
            _change(tables[index], old[index], value)
        else:
            made = tomlkit.table()
            for key, each in value.items():
                _add(made, key, each)
            tables.append(made)


def _item(value: Any) -> Any:
    """Lists of tables on one line, as people write access lists."""
    if isinstance(value, list):
        made = tomlkit.array()
        for each in value:
            made.append(_inline(each))
        return made
    return _inline(value)


def _inline(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    made = tomlkit.inline_table()
    made.update(value)
    return made


def _holds_tables_only(value: dict[str, Any]) -> bool:
    """It needs no line of its own then: C{[nodes.a]} says that there is C{nodes}."""
    return bool(value) and all(isinstance(each, dict) for each in value.values())


def _change_list(items: Any, old: list[Any], new: list[Any]) -> None:
    """One element after the other, so that a list over several lines stays one."""
    for index in range(len(old) - 1, -1, -1):
        if old[index] not in new:
            del items[index]
    left = [each for each in old if each in new]
    if left == new[: len(left)]:
        for each in new[len(left) :]:
            items.append(each)
        return
    while len(items):
        del items[0]
    for each in new:
        items.append(each)


def same_values(one: Any, other: Any) -> bool:
    """Equal in a file, where C{1} is not C{true}."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_values(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same_values, one, other))
    return bool(one == other)


def _plain(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str | int | float | bool) for value in values)
