"""
A topology as a document: tables, lists and plain values, as TOML or JSON have them.

The shape of the TOML::

    [daemon]
    state_dir = "state"                                # relative to this file, as every path
    admin = "tcp:7480:interface=127.0.0.1"
    operators = ["alice", "@storage"]                  # who may operate it over a UNIX socket at admin
    security_dir = "state/security"                    # certificates; it is looked for here anyway
    open_to_the_network = false                        # true: listen beyond this machine without TLS
    [listeners]
    dst = "tcp:7450:interface=127.0.0.1"               # or a list of several
    nbd = ["unix:nbd.sock", { endpoint = "tcp:10809", tls = "required" }]
    [nodes.a]
    uri = "file:a.img?size=64M"
    [nodes.b]                                          # a part of another device
    parent = "a"
    start = "1M"
    size = "16M"
    [storages.vol]
    algorithm = "mirror"
    nodes = ["b", "c"]                                 # the other keys are the algorithm's
    [exports.vol]
    device = "vol"
    read_only = false
    allow = [{ access = "write", identity = "alpha", network = "10.0.0.0/8" }]  # without it: this machine only
    [[hooks]]                                          # who is told of events: see L{dst.cluster.hook_specs}
    on = ["health"]
    command = ["/usr/local/bin/page-me"]

A key that means nothing is an error: a misspelt C{read_olny} must never leave a disk writable in silence.

Reading says everything that is wrong, with its place. Writing is the opposite: what L{read_document} makes of
L{to_document} is the same topology.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from typing import TypeAlias

from attrs import evolve, field, frozen

from dst.cluster.hook_specs import HOOKS_MAX, HookSpec, hook_from_plain
from dst.cluster.listening import ListenerSpec, listener_from_plain
from dst.cluster.rules import Finding, did_you_mean
from dst.cluster.toml_lines import Place
from dst.cluster.topology import (
    Daemon,
    ExportSpec,
    NodeSpec,
    SliceSpec,
    StorageSpec,
    Topology,
)
from dst.geometry import parse_size
from dst.identity import AccessRule, access_rule_from_plain, access_rule_to_plain

__all__ = ["TABLES", "Document", "ReadDocument", "dotted", "etag_of", "read_document", "to_document", "unwritable"]

Document: TypeAlias = dict[str, object]

TABLES = ("daemon", "listeners", "nodes", "storages", "exports", "hooks")


@frozen
class ReadDocument:
    """
    What a document says.

    @ivar topology: what could be read of it.
    @ivar findings: what is wrong with its shape.
    @ivar unreadable: names of devices that are there but could not be read.
    """

    topology: Topology
    findings: list[Finding]
    unreadable: frozenset[str]


def read_document(document: Document, base_dir: str = ".") -> ReadDocument:
    """
    C{document} as a topology.

    @param base_dir: what relative paths are relative to.
    """
    reader = _Reader(document)
    topology = evolve(reader.topology(), base_dir=base_dir)
    return ReadDocument(topology, reader.findings, frozenset(reader.unreadable))


def to_document(topology: Topology) -> Document:
    """
    The document that says C{topology}; what is as if nothing were said is left out.
    """
    devices: dict[str, object] = {spec.name: {"uri": spec.uri, **spec.options} for spec in topology.nodes}
    for spec in topology.slices:
        devices[spec.name] = {"parent": spec.parent, "start": spec.start, "size": spec.size}
    tables: dict[str, dict[str, object]] = {
        "daemon": _daemon(topology.daemon),
        "listeners": {name: _one_or_several(said) for name, said in topology.listeners.items()},
        "nodes": devices,
        "storages": {spec.name: _storage(spec) for spec in topology.storages},
        "exports": {spec.name: _export(spec) for spec in topology.exports},
    }
    document: Document = {name: table for name, table in tables.items() if table}
    if topology.hooks:
        document["hooks"] = [hook.plain() for hook in topology.hooks]
    return document


def _daemon(daemon: Daemon) -> dict[str, object]:
    admin = None if daemon.admin is None else ListenerSpec(daemon.admin, daemon.admin_tls).plain()
    said = {
        "name": daemon.name,
        "state_dir": daemon.state_dir,
        "admin": admin,
        "security_dir": daemon.security_dir,
        "open_to_the_network": True if daemon.open_to_the_network else None,
        "operators": list(daemon.operators) or None,
    }
    return {key: value for key, value in said.items() if value is not None}


def _one_or_several(said: tuple[ListenerSpec, ...]) -> object:
    return said[0].plain() if len(said) == 1 else [each.plain() for each in said]


def _storage(spec: StorageSpec) -> dict[str, object]:
    said: dict[str, object] = {"algorithm": spec.algorithm, "nodes": list(spec.nodes)}
    if spec.witnesses:
        said["witnesses"] = list(spec.witnesses)
    return said | spec.options


def _export(spec: ExportSpec) -> dict[str, object]:
    said: dict[str, object] = {"device": spec.device}
    if spec.read_only:
        said["read_only"] = True
    if spec.allow is not None:
        said["allow"] = [access_rule_to_plain(rule) for rule in spec.allow]
    return said


def etag_of(document: Document) -> str:
    """Changes whenever the document does, and not with the order of its keys."""
    plain = json.dumps(document, sort_keys=True, default=str)
    return hashlib.blake2b(plain.encode(), digest_size=12).hexdigest()


def unwritable(value: object, place: Place = ()) -> Iterator[Finding]:
    """What cannot be written in a TOML file, though JSON has it."""
    if isinstance(value, dict):
        for key, each in value.items():
            if not isinstance(key, str) or not _is_text(key):
                yield Finding(place, f"the key {key!r:.60} is no text")
            else:
                yield from unwritable(each, (*place, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from unwritable(each, (*place, index))
    elif value is None:
        yield Finding(place, "it is null; leave the key out where nothing is said")
    elif isinstance(value, str) and not _is_text(value):
        yield Finding(place, "it is no text: half of a surrogate pair is in it")
    elif isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        yield Finding(place, "the number is too large")
    elif isinstance(value, float) and not math.isfinite(value):
        yield Finding(place, "it is not a finite number")


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def dotted(place: Place) -> str:
    """C{place} as a person writes it."""
    return ".".join(map(str, place)) or "topology"


@frozen
class _Reader:
    """
    A document to specifications, one table after the other.

    @ivar findings: what is wrong with the shape.
    @ivar unreadable: names of devices that are there but could not be read.
    """

    document: dict[str, object]
    findings: list[Finding] = field(factory=list)
    unreadable: set[str] = field(factory=set)

    def topology(self) -> Topology:
        """What could be read."""
        self._check_keys((), self.document, TABLES)
        nodes: list[NodeSpec] = []
        slices: list[SliceSpec] = []
        for name, table in self._tables("nodes"):
            before = len(self.findings)
            if "parent" in table:
                slices.append(self._slice(name, table))
            else:
                nodes.append(self._node(name, table))
            if len(self.findings) > before:
                (slices if "parent" in table else nodes).pop()
                self.unreadable.add(name)
        storages = self._storages()
        exports = tuple(self._export(name, table) for name, table in self._tables("exports"))
        return Topology(
            tuple(nodes),
            tuple(slices),
            tuple(storages),
            tuple(export for export in exports if export is not None),
            self._listeners(),
            self._daemon(),
            hooks=self._hooks(),
        )

    def _node(self, name: str, table: dict[str, object]) -> NodeSpec:
        place = ("nodes", name)
        options = {key: value for key, value in table.items() if key != "uri"}
        for key, value in options.items():
            if isinstance(value, dict | list):
                self._wrong((*place, key), f"{key} is {_kind(value)}; expected a plain value")
        return NodeSpec(name, self._text(place, table, "uri", needed='uri = "file:a.img?size=64M"'), options)

    def _slice(self, name: str, table: dict[str, object]) -> SliceSpec:
        place = ("nodes", name)
        self._check_keys(place, table, ("parent", "start", "size"))
        return SliceSpec(
            name,
            self._text(place, table, "parent", needed='parent = "a"'),
            self._size(place, table, "start", 0),
            self._size(place, table, "size", None),
        )

    def _storages(self) -> list[StorageSpec]:
        storages: list[StorageSpec] = []
        for name, table in self._tables("storages"):
            place = ("storages", name)
            before = len(self.findings)
            algorithm = self._text(place, table, "algorithm", needed='algorithm = "mirror"')
            nodes = self._texts(place, table, "nodes", needed='nodes = ["a", "b"]')
            witnesses = self._texts(place, table, "witnesses") if "witnesses" in table else ()
            options = {key: value for key, value in table.items() if key not in ("algorithm", "nodes", "witnesses")}
            if len(self.findings) == before:
                storages.append(StorageSpec(name, algorithm, nodes, options, witnesses))
            else:
                self.unreadable.add(name)
        return storages

    def _export(self, name: str, table: dict[str, object]) -> ExportSpec | None:
        place = ("exports", name)
        before = len(self.findings)
        self._check_keys(place, table, ("device", "read_only", "allow"))
        device = self._text(place, table, "device", needed='device = "vol"')
        read_only = table.get("read_only", False)
        if not isinstance(read_only, bool):
            self._wrong((*place, "read_only"), f"read_only is {_kind(read_only)}; expected true or false")
            return None
        allow = self._allow(place, table)
        return ExportSpec(name, device, read_only, allow) if len(self.findings) == before else None

    def _allow(self, place: Place, table: dict[str, object]) -> tuple[AccessRule, ...] | None:
        value = table.get("allow")
        if value is None:
            return None
        if not isinstance(value, list):
            expected = 'a list of rules, as [{ access = "write", identity = "alpha" }]; an empty one is nobody'
            self._wrong((*place, "allow"), f"allow is {_kind(value)}; expected {expected}")
            return ()
        rules = []
        for index, each in enumerate(value):
            try:
                rules.append(access_rule_from_plain(each))
            except ValueError as error:
                self._wrong((*place, "allow", index), f"allow: {error}")
        return tuple(rules)

    def _listeners(self) -> dict[str, tuple[str | ListenerSpec, ...]]:
        table = self._table((), self.document, "listeners")
        return {protocol: tuple(self._listeners_of(protocol, value)) for protocol, value in table.items()}

    def _listeners_of(self, protocol: str, value: object) -> list[ListenerSpec]:
        place: Place = ("listeners", protocol)
        if isinstance(value, list):
            read = [self._listener((*place, index), protocol, each) for index, each in enumerate(value)]
        elif isinstance(value, str | dict):
            read = [self._listener(place, protocol, value)]
        else:
            self._wrong(place, f"{protocol} is {_kind(value)}; expected a text or a list of texts")
            read = []
        return [listener for listener in read if listener is not None]

    def _listener(self, place: Place, key: str, value: object) -> ListenerSpec | None:
        try:
            return listener_from_plain(value)
        except ValueError as error:
            found = f"{key}: " if isinstance(value, dict) else f"{key} has {_kind(value)} in it; "
            self._wrong(place, f"{found}{error}")
            return None

    def _hooks(self) -> tuple[HookSpec, ...]:
        value = self.document.get("hooks", [])
        if not isinstance(value, list):
            self._wrong(("hooks",), f"hooks is {_kind(value)}; expected a list of tables, [[hooks]]")
            return ()
        hooks = []
        for index, each in enumerate(value):
            try:
                hooks.append(hook_from_plain(each))
            except ValueError as error:
                self._wrong(("hooks", index), f"hook {index + 1}: {error}")
        if len(value) > HOOKS_MAX:
            self._wrong(("hooks",), f"there are {len(value)} hooks; {HOOKS_MAX} is the most")
        return tuple(hooks)

    def _daemon(self) -> Daemon:
        place, table = ("daemon",), self._table((), self.document, "daemon")
        known = ("state_dir", "admin", "name", "security_dir", "open_to_the_network", "operators")
        self._check_keys(place, table, known)
        named = [key for key in ("state_dir", "name", "security_dir") if key in table]
        texts = {key: self._text(place, table, key) or None for key in named}
        door: ListenerSpec | None = None
        if isinstance(table.get("admin"), dict):
            door = self._listener((*place, "admin"), "admin", table["admin"])
        elif "admin" in table:
            door = ListenerSpec(self._text(place, table, "admin"))
        is_open = table.get("open_to_the_network", False)
        if not isinstance(is_open, bool):
            self._wrong((*place, "open_to_the_network"), f"it is {_kind(is_open)}; expected true or false")
        return Daemon(
            texts.get("state_dir"),
            door.endpoint or None if door else None,
            texts.get("name"),
            texts.get("security_dir"),
            is_open is True,
            door.tls if door else None,
            self._texts(place, table, "operators"),
        )

    # -- one value

    def _wrong(self, place: Place, sentence: str) -> None:
        self.findings.append(Finding(place, sentence))

    def _check_keys(self, place: Place, table: dict[str, object], known: tuple[str, ...]) -> None:
        where = f"[{dotted(place)}]" if place else "a topology"
        for key in table:
            if key not in known:
                self._wrong((*place, key), f"{where} has the unknown key {key!r}{did_you_mean(key, known)}")

    def _table(self, place: Place, table: dict[str, object], key: str) -> dict[str, object]:
        value = table.get(key, {})
        if isinstance(value, dict):
            return value
        self._wrong((*place, key), f"{key} is {_kind(value)}; expected a table, [{dotted((*place, key))}]")
        return {}

    def _tables(self, kind: str) -> list[tuple[str, dict[str, object]]]:
        tables = []
        for name, table in self._table((), self.document, kind).items():
            if isinstance(table, dict):
                tables.append((name, table))
            else:
                self._wrong((kind, name), f"{name} is {_kind(table)}; expected a table, [{kind}.NAME]")
        return tables

    def _text(self, place: Place, table: dict[str, object], key: str, *, needed: str = "") -> str:
        value = table.get(key)
        if isinstance(value, str) and value:
            return value
        if key not in table:
            self._wrong(place, f"[{dotted(place)}] has no {key}{_similar(key, table)}; expected {needed}")
        else:
            found = "an empty text" if value == "" else _kind(value)
            self._wrong((*place, key), f"{key} is {found}; expected {needed or 'a text'}")
        return ""

    def _texts(
        self, place: Place, table: dict[str, object], key: str, *, alone: bool = False, needed: str = ""
    ) -> tuple[str, ...]:
        if key not in table:
            if needed:
                self._wrong(place, f"[{dotted(place)}] has no {key}{_similar(key, table)}; expected {needed}")
            return ()
        value = table[key]
        if alone and isinstance(value, str):
            return (value,)
        if not isinstance(value, list):
            self._wrong((*place, key), f"{key} is {_kind(value)}; expected {needed or 'a text or a list of texts'}")
            return ()
        for index, each in enumerate(value):
            if not isinstance(each, str):
                self._wrong((*place, key, index), f"{key} has {_kind(each)} in it; expected texts only")
        return tuple(each for each in value if isinstance(each, str))

    def _size(self, place: Place, table: dict[str, object], key: str, default: int | None) -> int:
        value = table.get(key, default)
        if value is None:
            self._wrong(place, f'[{dotted(place)}] has no {key}; expected {key} = "16M"')
        elif isinstance(value, bool) or not isinstance(value, int | str):
            self._wrong((*place, key), f'{key} is {_kind(value)}; expected a size, as "16M"')
        else:
            try:
                return parse_size(str(value))
            except ValueError as error:
                self._wrong((*place, key), f"bad {key}: {error}")
        return 0


def _similar(key: str, table: dict[str, object]) -> str:
    hint = did_you_mean(key, table)
    return hint.replace("did you mean", "is it called") if "did you mean" in hint else ""


_KINDS: list[tuple[type | tuple[type, ...], Callable[[object], str]]] = [
    (bool, lambda value: "true" if value else "false"),
    ((int, float), lambda value: f"the number {value}"),
    (str, lambda value: f"the text {value!r}"),
    (list, lambda value: "a list"),
    (dict, lambda value: "a table"),
]


def _kind(value: object) -> str:
    """What a person would say that C{value} is."""
    for kind, say in _KINDS:
        if isinstance(value, kind):
            return say(value)
    return f"a {type(value).__name__}"
