"""
A topology from a file: TOML, or a Python script.

The shape of the TOML::

    [daemon]
    state_dir = "state"                                # relative to this file, as every path
    admin = "tcp:7480:interface=127.0.0.1"
    [listeners]
    dst = "tcp:7450:interface=127.0.0.1"               # or a list of several
    nbd = ["tcp:10809:interface=127.0.0.1", "unix:nbd.sock"]
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

A key that means nothing is an error: a misspelt C{read_olny} must never leave a disk writable in silence.
"""

from __future__ import annotations

import os
import re
import runpy
import tomllib
import traceback
from typing import TYPE_CHECKING

from attrs import evolve, field, frozen

from dst.cluster.building import check_building
from dst.cluster.providers import Providers
from dst.cluster.rules import Finding, did_you_mean, findings
from dst.cluster.toml_lines import Lines, Place, lines_of, nearest_line
from dst.cluster.topology import (
    Daemon,
    ExportSpec,
    Listeners,
    NodeSpec,
    SliceSpec,
    StorageSpec,
    Topology,
    as_topology,
)
from dst.errors import ConfigurationError
from dst.geometry import parse_size

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FILE_BYTES_MAX", "BadTopology", "Problem", "check", "load", "load_script"]

FILE_BYTES_MAX = 4 * 1024 * 1024
"""Some hundred bytes for each device that a daemon may have; more is not a topology but a mistake."""

_TABLES = ("daemon", "listeners", "nodes", "storages", "exports")


@frozen
class Problem:
    """
    Something that is wrong with a file.

    @ivar line: from 1; C{None} when it is about the file as a whole.
    """

    path: str
    line: int | None
    sentence: str

    def __str__(self) -> str:
        return f"{self.path}: {self.sentence}" if self.line is None else f"{self.path}:{self.line}: {self.sentence}"


class BadTopology(ConfigurationError):
    """
    A file does not describe a topology that can run.

    @ivar problems: all that was found, in the order of the file.
    """

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def check(path: str | os.PathLike[str], providers: Providers | None = None) -> list[Problem]:
    """
    Everything that is wrong with the topology in a file; nothing is started, created or connected to.

    @param path: a TOML file, or a Python script if its name ends in C{.py}.
    @param providers: C{None} for those that are installed.
    """
    try:
        if os.fspath(path).endswith(".py"):
            load_script(path, providers)
        else:
            load(path, providers)
    except BadTopology as error:
        return error.problems
    return []


def load(path: str | os.PathLike[str], providers: Providers | None = None) -> Topology:
    """
    The topology in a TOML file.

    @raise BadTopology: it cannot be used.
    """
    path = os.fspath(path)
    text = _read_text(path)
    try:
        document = tomllib.loads(text)
        lines = lines_of(text)
    except tomllib.TOMLDecodeError as error:
        raise BadTopology([_syntax_problem(path, error, text)]) from None
    except RecursionError:
        raise BadTopology([Problem(path, None, "lists or tables are nested too deeply to be a topology")]) from None
    reader = _Reader(document)
    topology = evolve(reader.topology(), base_dir=os.path.dirname(os.path.abspath(path)))
    providers = Providers.found() if providers is None else providers
    found = reader.findings + findings(topology, providers, also_known=frozenset(reader.unreadable))
    found += _provider_findings(topology, providers, found)
    if found:
        raise BadTopology(_problems(path, found, lines))
    return topology


def load_script(path: str | os.PathLike[str], providers: Providers | None = None) -> Topology:
    """
    The topology in a Python script: its C{topology}, a value or a function of no arguments.

    @raise BadTopology: it cannot be used.
    """
    path = os.fspath(path)
    _read_text(path)
    try:
        names = runpy.run_path(path, run_name="__dst__")
        value = names.get("topology")
        if callable(value):
            value = value()
        if value is None:
            raise ConfigurationError("the script has no topology; expected topology = ... or def topology(): ...")
        topology = as_topology(value)
    except (Exception, SystemExit) as error:
        sentence = error.message if isinstance(error, ConfigurationError) else f"{type(error).__name__}: {error}"
        raise BadTopology([Problem(path, _line_in_script(error, path), sentence)]) from error
    base_dir = os.path.join(os.path.dirname(os.path.abspath(path)), topology.base_dir)
    topology = evolve(topology, base_dir=os.path.normpath(base_dir))
    providers = Providers.found() if providers is None else providers
    found = findings(topology, providers)
    found += _provider_findings(topology, providers, found)
    if found:
        raise BadTopology([Problem(path, None, f"{_dotted(each.place)}: {each.sentence}") for each in found])
    return topology


def _read_text(path: str) -> str:
    try:
        with open(path, "rb") as source:
            data = source.read(FILE_BYTES_MAX + 1)
        if len(data) > FILE_BYTES_MAX:
            raise BadTopology([Problem(path, None, f"is larger than {FILE_BYTES_MAX} bytes; expected a topology")])
        return data.decode("utf-8-sig")
    except OSError as error:
        raise BadTopology([Problem(path, None, f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise BadTopology([Problem(path, line, "is not UTF-8 text; expected a topology")]) from None


def _syntax_problem(path: str, error: tomllib.TOMLDecodeError, text: str) -> Problem:
    message = str(error)
    at = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", message)
    line = text.count("\n") + 1 if at is None or at[1] is None else int(at[1])
    sentence = message if at is None else message[: at.start()]
    return Problem(path, line, f"is not TOML here: {sentence}")


def _line_in_script(error: BaseException, path: str) -> int | None:
    if isinstance(error, SyntaxError) and error.filename == path:
        return error.lineno
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return frames[-1].lineno if frames else None


def _provider_findings(topology: Topology, providers: Providers, found: list[Finding]) -> list[Finding]:
    """What the providers say, asked only of what nothing is known to be wrong with."""
    wrong = {each.place[:2] for each in found}
    return [each for each in check_building(topology, providers) if each.place[:2] not in wrong]


def _problems(path: str, found: list[Finding], lines: Lines) -> list[Problem]:
    problems = {Problem(path, nearest_line(lines, each.place), each.sentence): None for each in found}
    return sorted(problems, key=lambda problem: problem.line or 0)


def _dotted(place: Place) -> str:
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
        self._check_keys((), self.document, _TABLES)
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
        self._check_keys(place, table, ("device", "read_only"))
        device = self._text(place, table, "device", needed='device = "vol"')
        read_only = table.get("read_only", False)
        if not isinstance(read_only, bool):
            self._wrong((*place, "read_only"), f"read_only is {_kind(read_only)}; expected true or false")
            return None
        return ExportSpec(name, device, read_only) if len(self.findings) == before else None

    def _listeners(self) -> Listeners:
        table = self._table((), self.document, "listeners")
        return {protocol: self._texts(("listeners",), table, protocol, alone=True) for protocol in table}

    def _daemon(self) -> Daemon:
        table = self._table((), self.document, "daemon")
        self._check_keys(("daemon",), table, ("state_dir", "admin", "name"))
        state_dir = self._text(("daemon",), table, "state_dir") if "state_dir" in table else None
        admin = self._text(("daemon",), table, "admin") if "admin" in table else None
        name = self._text(("daemon",), table, "name") if "name" in table else None
        return Daemon(state_dir or None, admin or None, name or None)

    # -- one value

    def _wrong(self, place: Place, sentence: str) -> None:
        self.findings.append(Finding(place, sentence))

    def _check_keys(self, place: Place, table: dict[str, object], known: tuple[str, ...]) -> None:
        where = f"[{_dotted(place)}]" if place else "a topology"
        for key in table:
            if key not in known:
                self._wrong((*place, key), f"{where} has the unknown key {key!r}{did_you_mean(key, known)}")

    def _table(self, place: Place, table: dict[str, object], key: str) -> dict[str, object]:
        value = table.get(key, {})
        if isinstance(value, dict):
            return value
        self._wrong((*place, key), f"{key} is {_kind(value)}; expected a table, [{_dotted((*place, key))}]")
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
            self._wrong(place, f"[{_dotted(place)}] has no {key}{_similar(key, table)}; expected {needed}")
        else:
            found = "an empty text" if value == "" else _kind(value)
            self._wrong((*place, key), f"{key} is {found}; expected {needed or 'a text'}")
        return ""

    def _texts(
        self, place: Place, table: dict[str, object], key: str, *, alone: bool = False, needed: str = ""
    ) -> tuple[str, ...]:
        if key not in table:
            if needed:
                self._wrong(place, f"[{_dotted(place)}] has no {key}{_similar(key, table)}; expected {needed}")
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
            self._wrong(place, f'[{_dotted(place)}] has no {key}; expected {key} = "16M"')
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
