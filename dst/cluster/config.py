"""
A topology from a file: TOML, or a Python script.

What stands in one is described in L{dst.cluster.document}.
"""

from __future__ import annotations

import os
import re
import runpy
import tomllib
import traceback

from attrs import evolve, frozen

from dst.cluster.building import check_building
from dst.cluster.document import Document, dotted, read_document
from dst.cluster.providers import Providers
from dst.cluster.rules import Finding, findings
from dst.cluster.toml_lines import Lines, lines_of, nearest_line
from dst.cluster.topology import Topology, as_topology
from dst.errors import ConfigurationError

__all__ = [
    "FILE_BYTES_MAX",
    "BadTopology",
    "LoadedTopology",
    "Problem",
    "check",
    "checked_document",
    "load",
    "load_file",
    "load_script",
]

FILE_BYTES_MAX = 4 * 1024 * 1024
"""Some hundred bytes for each device that a daemon may have; more is not a topology but a mistake."""


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


@frozen
class LoadedTopology:
    """
    What a TOML file says, and how.

    @ivar document: its tables.
    @ivar data: its bytes.
    """

    path: str
    topology: Topology
    document: Document
    data: bytes


def load(path: str | os.PathLike[str], providers: Providers | None = None) -> Topology:
    """
    The topology in a TOML file.

    @raise BadTopology: it cannot be used.
    """
    return load_file(path, providers).topology


def load_file(path: str | os.PathLike[str], providers: Providers | None = None) -> LoadedTopology:
    """
    As L{load}, with all that has to be known to change the file.

    @raise BadTopology: it cannot be used.
    """
    path = os.fspath(path)
    data = _read(path)
    text = _decoded(path, data)
    try:
        document = tomllib.loads(text)
        lines = lines_of(text)
    except tomllib.TOMLDecodeError as error:
        raise BadTopology([_syntax_problem(path, error, text)]) from None
    except RecursionError:
        raise BadTopology([Problem(path, None, "lists or tables are nested too deeply to be a topology")]) from None
    providers = Providers.found() if providers is None else providers
    topology, found = checked_document(document, os.path.dirname(os.path.abspath(path)), providers)
    if found:
        raise BadTopology(_problems(path, found, lines))
    return LoadedTopology(path, topology, document, data)


def checked_document(document: Document, base_dir: str, providers: Providers) -> tuple[Topology, list[Finding]]:
    """
    What C{document} says, and everything that is wrong with it.
    """
    read = read_document(document, base_dir)
    found = read.findings + findings(read.topology, providers, also_known=read.unreadable)
    return read.topology, found + _provider_findings(read.topology, providers, found)


def load_script(path: str | os.PathLike[str], providers: Providers | None = None) -> Topology:
    """
    The topology in a Python script: its C{topology}, a value or a function of no arguments.

    @raise BadTopology: it cannot be used.
    """
    path = os.fspath(path)
    _decoded(path, _read(path))
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
        raise BadTopology([Problem(path, None, f"{dotted(each.place)}: {each.sentence}") for each in found])
    return topology


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as source:
            data = source.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise BadTopology([Problem(path, None, f"cannot be read: {error.strerror}")]) from None
    if len(data) > FILE_BYTES_MAX:
        raise BadTopology([Problem(path, None, f"is larger than {FILE_BYTES_MAX} bytes; expected a topology")])
    return data


def _decoded(path: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
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
