"""
Status trees as plain values, ready for JSON, and back.

What comes from elsewhere is checked like any other input: types, lengths, the
number of entries and how deep it goes.  Unknown keys are ignored, so that a newer
daemon can say more to an older one.  What goes out is pruned to the same limits, so a
tree that this daemon built is always one that its peer accepts, and two daemons that
export each other's devices do not tell an ever growing tale.
"""

from __future__ import annotations

import enum
from typing import TypeVar

from dst.errors import InvalidRequest
from dst.geometry import SIZE_BYTES_MAX
from dst.status import Health, ResyncProgress, StatusTree

__all__ = ["STATUS_DEPTH_MAX", "STATUS_TREES_MAX", "status_tree_from_plain", "status_tree_to_plain"]

STATUS_DEPTH_MAX = 16
"""Levels of a tree.  Three or four are usual; a ring of daemons that export each other would have no end."""

STATUS_TREES_MAX = 2048
"""Entries in a whole tree: a mirror of some hundred members that are storages themselves."""

_TEXT_MAX = 1024
"""Characters of a name, word or sentence: a sentence that is longer is not read by anybody."""

_DETAIL_MAX = 64
"""Facts in one C{detail}, and entries of a list or mapping in it."""

_DETAIL_DEPTH_MAX = 3
"""Levels inside one fact."""

E = TypeVar("E", bound=enum.Enum)


def status_tree_to_plain(tree: StatusTree) -> dict[str, object]:
    """
    C{tree} as mappings, lists, strings and numbers only.

    What is beyond the limits is left out, and C{detail["pruned"]} of the entry above it says so.
    """
    return _to_plain(tree, STATUS_DEPTH_MAX, [STATUS_TREES_MAX - 1])


def status_tree_from_plain(value: object) -> StatusTree:
    """
    The tree that L{status_tree_to_plain} made C{value} from.

    @raise InvalidRequest: it is not one; the sentence names the place, what was found and what was expected.
    """
    return _from_plain(value, "status", STATUS_DEPTH_MAX, [STATUS_TREES_MAX])


def _to_plain(tree: StatusTree, depth: int, left: list[int]) -> dict[str, object]:
    children = []
    for child in tree.children:
        if depth <= 1 or left[0] <= 0:
            break
        left[0] -= 1
        children.append(_to_plain(child, depth - 1, left))
    detail = {
        _cut(str(key)): _plain_fact(fact, _DETAIL_DEPTH_MAX) for key, fact in list(tree.detail.items())[:_DETAIL_MAX]
    }
    if len(children) < len(tree.children):
        while len(detail) >= _DETAIL_MAX:
            detail.popitem()
        detail["pruned"] = len(tree.children) - len(children)
    resync = tree.resync
    return {
        "name": _cut(tree.name),
        "kind": _cut(tree.kind),
        "health": tree.health.value,
        "state": _cut(tree.state),
        "reason": _cut(tree.reason),
        "since": tree.since,
        "size": tree.size,
        "redundancy": tree.redundancy,
        "dirty_bytes": tree.dirty_bytes,
        "resync": None
        if resync is None
        else {
            "kind": _cut(resync.kind),
            "cause": _cut(resync.cause),
            "bytes_total": resync.bytes_total,
            "bytes_left": resync.bytes_left,
            "bytes_copied": resync.bytes_copied,
            "bytes_per_s": resync.bytes_per_s,
            "stalled": _cut(resync.stalled),
        },
        "detail": detail,
        "children": children,
    }


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT_MAX else text[: _TEXT_MAX - 1] + "…"


def _plain_fact(fact: object, depth: int) -> object:
    """C{fact} if JSON has it, else the words for it: a fact is for people and never a reason to fail."""
    if fact is None or isinstance(fact, bool):
        return fact
    if isinstance(fact, int | float):
        return fact if -SIZE_BYTES_MAX <= fact <= SIZE_BYTES_MAX else _cut(str(fact))
    if isinstance(fact, str):
        return _cut(fact)
    if depth > 1 and isinstance(fact, list | tuple):
        return [_plain_fact(item, depth - 1) for item in fact[:_DETAIL_MAX]]
    if depth > 1 and isinstance(fact, dict):
        return {_cut(str(key)): _plain_fact(item, depth - 1) for key, item in list(fact.items())[:_DETAIL_MAX]}
    return _cut(str(fact))


def _from_plain(value: object, place: str, depth: int, left: list[int]) -> StatusTree:
    if depth == 0:
        raise InvalidRequest(f"{place}: the tree has more than {STATUS_DEPTH_MAX} levels")
    left[0] -= 1
    if left[0] < 0:
        raise InvalidRequest(f"{place}: the tree has more than {STATUS_TREES_MAX} entries")
    fields = _mapping(value, place)
    children = fields.get("children", [])
    if not isinstance(children, list):
        raise _unexpected(f"{place}.children", children, "a list")
    resync = fields.get("resync")
    return StatusTree(
        name=_text(fields, "name", place),
        kind=_text(fields, "kind", place),
        health=_word(fields, "health", place, Health),
        state=_text(fields, "state", place),
        reason=_text(fields, "reason", place, ""),
        since=_number(fields, "since", place),
        size=_count(fields, "size", place),
        redundancy=_count(fields, "redundancy", place),
        dirty_bytes=_count(fields, "dirty_bytes", place),
        resync=None if resync is None else _resync(resync, f"{place}.resync"),
        detail=_detail(fields.get("detail", {}), f"{place}.detail"),
        children=tuple(
            _from_plain(child, f"{place}.children[{n}]", depth - 1, left) for n, child in enumerate(children)
        ),
    )


def _resync(value: object, place: str) -> ResyncProgress:
    fields = _mapping(value, place)
    return ResyncProgress(
        kind=_text(fields, "kind", place),
        cause=_text(fields, "cause", place, ""),
        bytes_total=_count(fields, "bytes_total", place),
        bytes_left=_count(fields, "bytes_left", place),
        bytes_copied=_count(fields, "bytes_copied", place),
        bytes_per_s=_number(fields, "bytes_per_s", place),
        stalled=_text(fields, "stalled", place, ""),
    )


def _unexpected(place: str, found: object, expected: str) -> InvalidRequest:
    shown = repr(found)
    return InvalidRequest(f"{place} is {shown if len(shown) <= 60 else shown[:57] + '...'}, expected {expected}")


def _mapping(value: object, place: str) -> dict[object, object]:
    if not isinstance(value, dict):
        raise _unexpected(place, value, "a mapping")
    return value


def _text(fields: dict[object, object], key: str, place: str, default: str | None = None) -> str:
    value = fields.get(key, default)
    if not isinstance(value, str) or len(value) > _TEXT_MAX:
        raise _unexpected(f"{place}.{key}", value, f"a string of up to {_TEXT_MAX} characters")
    return value


def _word(fields: dict[object, object], key: str, place: str, words: type[E]) -> E:
    value = fields.get(key)
    for word in words:
        if word.value == value:
            return word
    raise _unexpected(f"{place}.{key}", value, "one of " + ", ".join(str(word.value) for word in words))


def _count(fields: dict[object, object], key: str, place: str) -> int:
    value = fields.get(key, 0)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= SIZE_BYTES_MAX:
        raise _unexpected(f"{place}.{key}", value, f"a whole number from 0 to {SIZE_BYTES_MAX}")
    return value


def _number(fields: dict[object, object], key: str, place: str) -> float:
    value = fields.get(key, 0.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= SIZE_BYTES_MAX:
        raise _unexpected(f"{place}.{key}", value, "a finite number that is not negative")
    return float(value)


def _detail(value: object, place: str) -> dict[str, object]:
    facts = _mapping(value, place)
    _check_fact(facts, place, _DETAIL_DEPTH_MAX + 1)
    return {str(key): fact for key, fact in facts.items()}


def _check_fact(fact: object, place: str, depth: int) -> None:
    if fact is None or isinstance(fact, bool):
        return
    if isinstance(fact, int | float):
        if not -SIZE_BYTES_MAX <= fact <= SIZE_BYTES_MAX:
            raise _unexpected(place, fact, "a finite number of at most 62 bits")
        return
    if isinstance(fact, str):
        if len(fact) > _TEXT_MAX:
            raise _unexpected(place, fact, f"at most {_TEXT_MAX} characters")
        return
    if not isinstance(fact, list | dict):
        raise _unexpected(place, fact, "a JSON value")
    if depth <= 1 or len(fact) > _DETAIL_MAX:
        raise InvalidRequest(f"{place} has more than {_DETAIL_DEPTH_MAX} levels or {_DETAIL_MAX} entries")
    if isinstance(fact, list):
        for n, item in enumerate(fact):
            _check_fact(item, f"{place}[{n}]", depth - 1)
        return
    for key, item in fact.items():
        if not isinstance(key, str) or len(key) > _TEXT_MAX:
            raise _unexpected(place, key, "a string as key")
        _check_fact(item, f"{place}.{key}", depth - 1)
