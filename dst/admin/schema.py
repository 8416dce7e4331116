"""
What the REST interface says, as values: version 1.

C{GET /v1/status} answers one envelope::

    {"version": 1, "time": 1700000000.0, "health": "degraded",
     "storages": [TREE, ...], "nodes": [TREE, ...]}

C{storages} are those of the topology, C{nodes} the nodes that are in none, both sorted by
name.  C{health} is the worst of all, so a script needs one look.  A TREE is what
L{dst.status.StatusTree} says, with C{children} called C{members} (the word scripts look for),
and with C{percent} and C{seconds_left} worked out in C{resync}.

C{POST /v1/storages/NAME/OPERATION} takes one JSON object; L{OPERATIONS} is the
table of them.  It answers C{{"version": 1, "done": OPERATION}}.

Every error is as L{dst.admin.error_answers} says.

Nothing here knows a reactor, a Deferred or a socket.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from attrs import frozen

from dst.admin.error_answers import (
    API_VERSION,
    ERRORS,
    ErrorRow,
    correction_for,
    error_from_code,
    error_from_json,
    error_row,
    error_to_json,
)
from dst.errors import InvalidRequest, PeerError
from dst.explaining_trees import CARRIED
from dst.status import MemberState, StatusTree, worst_health
from dst.status_json import status_tree_from_plain, status_tree_to_plain

__all__ = [
    "API_VERSION",
    "BODY_BYTES_MAX",
    "ERRORS",
    "OPERATIONS",
    "ErrorRow",
    "correction_for",
    "envelope",
    "error_from_code",
    "error_from_json",
    "error_row",
    "error_to_json",
    "is_storage",
    "load_json",
    "operation_arguments",
    "operation_schema",
    "tree_from_json",
    "tree_to_json",
    "trees_from_envelope",
]

BODY_BYTES_MAX = 64 * 1024
"""What the body of a request may carry: two names and a URI, with room to spare."""

_NAME_CHARACTERS_MAX = 1024

_URI_CHARACTERS_MAX = 8192

_NODE_KINDS = frozenset({"file", "memory", "slice", "remote", "nbd"})
_MEMBER_STATES = frozenset(state.value for state in MemberState)


# -- status -------------------------------------------------------------------


def is_storage(tree: StatusTree) -> bool:
    """
    Whether a tree at the top is a storage's, and not that of a node in none.

    A storage has members, and the state of a member is a word that nothing else
    has; only a storage that has not looked at its members yet is told by its kind.
    """
    if any(child.state in _MEMBER_STATES for child in tree.children):
        return True
    return bool(tree.children) and tree.kind not in _NODE_KINDS


def envelope(trees: Iterable[StatusTree], now: float) -> dict[str, object]:
    """
    The answer to C{GET /v1/status}.

    @param now: seconds of the epoch by the daemon's clock, so that a reader can say how long
        ago C{since} was without trusting its own.
    """
    storages: list[object] = []
    nodes: list[object] = []
    healths = []
    for tree in sorted(trees, key=lambda tree: tree.name):
        (storages if is_storage(tree) else nodes).append(tree_to_json(tree))
        healths.append(tree.health)
    return {
        "version": API_VERSION,
        "time": now,
        "health": worst_health(*healths).value,
        "storages": storages,
        "nodes": nodes,
    }


def trees_from_envelope(value: object) -> list[StatusTree]:
    """
    The trees that L{envelope} was made of, sorted by name.

    @raise PeerError: it is no such envelope.
    """
    if not isinstance(value, dict):
        raise PeerError("the daemon's status is not a JSON object")
    if value.get("version") != API_VERSION:
        found = f"{value.get('version')!r:.40}"
        raise PeerError(f"the daemon speaks version {found} of the status, this program version {API_VERSION}")
    trees = []
    for key in ("storages", "nodes"):
        entries = value.get(key)
        if not isinstance(entries, list):
            raise PeerError(f"the daemon's status has no list of {key}")
        for entry in entries:
            try:
                trees.append(tree_from_json(entry))
            except (InvalidRequest, RecursionError) as error:
                raise PeerError(f"the daemon's status cannot be read: {error}") from error
    return sorted(trees, key=lambda tree: tree.name)


def tree_to_json(tree: StatusTree) -> dict[str, object]:
    """C{tree} with the words of this interface."""
    return _to_json(tree, status_tree_to_plain(tree))


def tree_from_json(value: object) -> StatusTree:
    """
    The tree that L{tree_to_json} told.

    @raise InvalidRequest: it is none.
    """
    return status_tree_from_plain(_from_json(value))


def _to_json(tree: StatusTree, plain: dict[str, object]) -> dict[str, object]:
    """C{plain} with the words of this interface.  It may have fewer children than C{tree}: it was pruned."""
    children = plain.pop("children")
    assert isinstance(children, list)
    detail = plain["detail"]
    assert isinstance(detail, dict)
    detail.pop(CARRIED, None)  # it is for GET /v1/explain
    progress = plain["resync"]
    if isinstance(progress, dict) and tree.resync is not None:
        total, left = tree.resync.bytes_total, tree.resync.bytes_left
        progress["percent"] = round(100 * (total - left) / total, 1) if total > 0 else 100.0
        progress["seconds_left"] = tree.resync.seconds_left
    plain["members"] = [_to_json(child, entry) for child, entry in zip(tree.children, children, strict=False)]
    return plain


def _from_json(value: object) -> object:
    if not isinstance(value, dict):
        return value
    plain = dict(value)
    members = plain.pop("members", [])
    plain["children"] = [_from_json(member) for member in members] if isinstance(members, list) else members
    return plain


# -- operations ---------------------------------------------------------------


@frozen
class _Argument:
    """One key of an operation's body."""

    kind: type
    required: bool
    characters_max: int = _NAME_CHARACTERS_MAX


_NODE = _Argument(str, True)

OPERATIONS: dict[str, dict[str, _Argument]] = {
    "initialise": {"keep": _Argument(str, False), "discard": _Argument(bool, False)},
    "suspend": {"node": _NODE},
    "resume": {"node": _NODE},
    "replace": {"node": _NODE, "uri": _Argument(str, True, _URI_CHARACTERS_MAX)},
    "mark-clean": {"node": _NODE},
    "mark-dirty": {"node": _NODE},
    "take-over": {},
    "resolve": {"keep": _NODE},
    "grow": {},
    "pause-resync": {"node": _Argument(str, False)},
    "resume-resync": {"node": _Argument(str, False)},
    "scrub": {"repair": _Argument(bool, False)},
    "stop-scrub": {},
}
"""
Operation -> what its body carries; the words are those of L{dst.interfaces.IClusterAdmin}, with C{-} for C{_}.
"""


def operation_schema(operation: str) -> dict[str, object]:
    """What L{operation_arguments} takes, as a JSON schema."""
    wanted = OPERATIONS[operation]
    properties: dict[str, dict[str, object]] = {}
    for key, argument in wanted.items():
        kind = "boolean" if argument.kind is bool else "string"
        properties[key] = {"type": kind if argument.required else [kind, "null"]}
        if argument.kind is str:
            properties[key] |= {"pattern": "^[ -~]+$", "maxLength": argument.characters_max}
    schema = {
        "type": "object",
        "properties": properties,
        "required": [key for key, argument in wanted.items() if argument.required],
        "additionalProperties": False,
    }
    if "discard" in wanted:  # to adopt a node's data, and to give it up
        both = {"keep": {"type": "string"}, "discard": {"const": True}}
        schema["not"] = {"properties": both, "required": sorted(both)}
    return schema


def operation_arguments(operation: str, body: bytes) -> dict[str, object]:
    """
    The keyword arguments for the operation.

    A key nobody knows is refused, not ignored: a misspelt C{keep} must not become "keep nothing".

    @param operation: a key of L{OPERATIONS}.
    @raise InvalidRequest: what was found and what was expected.
    """
    wanted = OPERATIONS[operation]
    keys = [f"{key!r}" + ("" if argument.required else " (optional)") for key, argument in wanted.items()]
    expected = "expected an object with " + (", ".join(keys) or "no keys")
    value = load_json(body) if body.strip() else {}
    if not isinstance(value, dict):
        raise InvalidRequest(f"the body is JSON, but not an object; {expected}")
    for key in value:
        if key not in wanted:
            raise InvalidRequest(f"the body has an unknown key {key!r:.60}; {expected}")
    arguments: dict[str, object] = {}
    for key, argument in wanted.items():
        given = value.get(key)
        if given is None:
            if argument.required:
                raise InvalidRequest(f"the body has no {key!r}; {expected}")
            continue
        if type(given) is not argument.kind:
            wanted_kind = "a string" if argument.kind is str else "true or false"
            raise InvalidRequest(f"{key!r} is {given!r:.60}, expected {wanted_kind}")
        if isinstance(given, str):
            _check_text(key, given, argument.characters_max)
        arguments[key] = given
    if arguments.get("keep") is not None and arguments.get("discard"):
        raise InvalidRequest("'keep' adopts a node's data and 'discard' gives it up: say one of them")
    return arguments


def _check_text(key: str, text: str, characters_max: int) -> None:
    if not 0 < len(text) <= characters_max:
        raise InvalidRequest(f"{key!r} has {len(text)} characters, expected 1 to {characters_max}")
    if not text.isprintable():
        raise InvalidRequest(f"{key!r} is {text!r:.60}, expected characters that can be printed")


def load_json(data: bytes) -> object:
    """
    C{data} as JSON, strictly: UTF-8, no key twice, no C{NaN}.

    @raise InvalidRequest: it is not.
    """

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key is there twice")
        return found

    def number_only(word: str) -> object:
        raise ValueError(f"{word} is no JSON number")

    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=once, parse_constant=number_only)
    except RecursionError:
        raise InvalidRequest("the body is nested too deeply") from None
    except ValueError as error:  # includes UnicodeDecodeError and JSONDecodeError
        raise InvalidRequest(f"the body is not JSON: {str(error)[:200]}") from None
