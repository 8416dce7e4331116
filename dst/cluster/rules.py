"""
What must be true of a topology, whichever way it was written.

Values in, findings out, all of them and not only the first: a person who
writes a file of forty lines wants to correct it once.  A finding says where it is as the path of
keys that a TOML file would have there; L{dst.cluster.config} makes a line of it.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator
from itertools import islice

from attrs import frozen

from dst.cluster.endpoints import wrong_with_endpoint
from dst.cluster.listening import ListenerSpec, wrong_with_exposure
from dst.cluster.providers import Providers
from dst.cluster.toml_lines import Place
from dst.cluster.topology import NodeSpec, SliceSpec, StorageSpec, Topology, absolute_uri
from dst.geometry import SIZE_BYTES_MAX
from dst.status_json import STATUS_DEPTH_MAX

__all__ = [
    "DEVICES_MAX",
    "FINDINGS_MAX",
    "LISTENERS_MAX",
    "NAME_CHARACTERS_MAX",
    "Finding",
    "did_you_mean",
    "findings",
    "storage_order",
]

DEVICES_MAX = 4096
"""Nodes, slices and storages of one daemon: each costs memory and a timer, and nobody reads a longer file."""

LISTENERS_MAX = 64
"""Places where a daemon listens: an address of each network and protocol is a tenth of it."""

NAME_CHARACTERS_MAX = 64
"""Names go into labels, paths, protocols and tables on a screen."""

_NAME = re.compile(rf"[A-Za-z0-9._-]{{1,{NAME_CHARACTERS_MAX}}}", re.ASCII)
_SCHEME = re.compile(r"[a-z][a-z0-9.+-]*", re.ASCII)


@frozen
class Finding:
    """
    Something that is wrong.

    @ivar place: where, as a path of keys.
    @ivar sentence: what was found and what was expected.
    """

    place: Place
    sentence: str


FINDINGS_MAX = 100
"""More is not read by anybody, and somebody may have sent a document that is all wrong to keep the daemon busy."""

GUESSED_NAMES_MAX = 256
"""Names that are compared with one that is not known: it takes some 20 us for each."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """C{"; did you mean 'x'?"}, or what there is to choose from."""
    names = sorted(set(known))
    close = difflib.get_close_matches(word[:NAME_CHARACTERS_MAX].lower(), names[:GUESSED_NAMES_MAX], n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    if not names:
        return "; there are none"
    return f"; known are {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}"


def findings(topology: Topology, providers: Providers, *, also_known: frozenset[str] = frozenset()) -> list[Finding]:
    """
    What is wrong with C{topology} itself: everything, up to L{FINDINGS_MAX}.

    @param also_known: names of devices that could not be read: what refers to them is not wrong because of it.
    """
    return list(islice(_Rules(topology, providers, also_known).all(), FINDINGS_MAX))


def storage_order(topology: Topology) -> list[StorageSpec | SliceSpec]:
    """
    Slices and storages, each after everything that is below it.

    @raise ValueError: some are below themselves; its argument is their names in a ring.
    """
    specs = {spec.name: spec for spec in topology.devices() if not isinstance(spec, NodeSpec)}
    order: list[StorageSpec | SliceSpec] = []
    done: set[str] = set()
    for start in specs:
        path: list[str] = []
        stack: list[tuple[str, Iterator[str]]] = []
        _enter(start, specs, done, path, stack)
        while stack:
            name, below = stack[-1]
            following = next(below, None)
            if following is None:
                stack.pop()
                path.pop()
                done.add(name)
                order.append(specs[name])
            elif following in path:
                raise ValueError([*path[path.index(following) :], following])
            else:
                _enter(following, specs, done, path, stack)
    return order


def _enter(
    name: str,
    specs: dict[str, SliceSpec | StorageSpec],
    done: set[str],
    path: list[str],
    stack: list[tuple[str, Iterator[str]]],
) -> None:
    if name in specs and name not in done:
        path.append(name)
        stack.append((name, iter(_below(specs[name]))))


def _below(spec: SliceSpec | StorageSpec) -> tuple[str, ...]:
    return (*spec.nodes, *spec.witnesses) if isinstance(spec, StorageSpec) else (spec.parent,)


class _Rules:
    def __init__(self, topology: Topology, providers: Providers, also_known: frozenset[str]) -> None:
        self._topology = topology
        self._providers = providers
        self._names = {spec.name for spec in topology.devices()}
        self._known = self._names | also_known

    def all(self) -> Iterator[Finding]:
        yield from self._check_names()
        yield from self._check_nodes()
        yield from self._check_members()
        yield from self._check_slices()
        yield from self._check_tree()
        yield from self._check_exports()
        yield from self._check_endpoints()

    def _check_names(self) -> Iterator[Finding]:
        topology = self._topology
        seen: dict[str, str] = {}
        count = 0
        for spec in topology.devices():
            table = _table(spec)
            yield from _check_name((table, spec.name), spec.name)
            if spec.name in seen:
                yield Finding(
                    (table, spec.name),
                    f"the name {spec.name!r} is taken by [{seen[spec.name]}.{spec.name}]; "
                    "expected one for each device",
                )
            seen.setdefault(spec.name, table)
            count += 1
        exports: set[str] = set()
        for export in topology.exports:
            yield from _check_name(("exports", export.name), export.name)
            if export.name in exports:
                yield Finding(("exports", export.name), f"the export {export.name!r} is there twice")
            exports.add(export.name)
        if count > DEVICES_MAX:
            yield Finding((), f"there are {count} nodes and storages, the most one daemon runs are {DEVICES_MAX}")

    def _check_nodes(self) -> Iterator[Finding]:
        media: dict[str, str] = {}
        for spec in self._topology.nodes:
            place = ("nodes", spec.name, "uri")
            scheme = spec.scheme
            if ":" not in spec.uri or not _SCHEME.fullmatch(scheme):
                yield Finding(place, f"{spec.uri!r} is no node URI; expected one as file:a.img?size=64M")
                continue
            if scheme not in self._providers.nodes:
                yield Finding(
                    place, f"no plugin makes nodes of {scheme}:{did_you_mean(scheme, self._providers.nodes)}"
                )
            if scheme == "memory":
                continue
            uri = absolute_uri(spec.uri, self._topology.base_dir)
            identity = uri if "+unix" in scheme else uri.partition("?")[0]
            if identity in media:
                yield Finding(
                    place, f"{spec.uri!r} is what node {media[identity]!r} is already; expected media of its own"
                )
            media.setdefault(identity, spec.name)

    def _check_members(self) -> Iterator[Finding]:
        member_of: dict[str, str] = {}
        for spec in self._topology.storages:
            if spec.algorithm not in self._providers.algorithms:
                known = did_you_mean(spec.algorithm, self._providers.algorithms)
                yield Finding(
                    ("storages", spec.name, "algorithm"), f"there is no algorithm {spec.algorithm!r}{known}"
                )
            if not spec.nodes:
                yield Finding(("storages", spec.name, "nodes"), f"storage {spec.name!r} has no nodes; expected some")
            places = [(name, ("storages", spec.name, "nodes", index)) for index, name in enumerate(spec.nodes)]
            places += [
                (name, ("storages", spec.name, "witnesses", index)) for index, name in enumerate(spec.witnesses)
            ]
            for name, place in places:
                if name not in self._known:
                    yield Finding(place, f"there is no node or storage {name!r}{did_you_mean(name, self._known)}")
                elif name in member_of:
                    yield Finding(
                        place,
                        f"{name!r} is used twice: it is a member of {member_of[name]!r} already; "
                        "a device can be in one storage, a slice of it in each",
                    )
                member_of.setdefault(name, spec.name)
        for part in self._topology.slices:
            if part.parent in member_of:
                yield Finding(
                    ("nodes", part.name, "parent"),
                    f"{part.parent!r} is a member of {member_of[part.parent]!r} and cannot be sliced as well",
                )

    def _check_slices(self) -> Iterator[Finding]:
        by_parent: dict[str, list[SliceSpec]] = {}
        for spec in self._topology.slices:
            if spec.parent not in self._known:
                known = did_you_mean(spec.parent, self._known)
                yield Finding(("nodes", spec.name, "parent"), f"there is no node or storage {spec.parent!r}{known}")
            if spec.size <= 0 or spec.start < 0 or spec.start + spec.size > SIZE_BYTES_MAX:
                yield Finding(
                    ("nodes", spec.name, "size"),
                    f"the slice of {spec.size} bytes from {spec.start} is no part of any device; "
                    "expected a start of 0 or more and a size above 0",
                )
                continue
            for other in by_parent.get(spec.parent, ()):
                if spec.start < other.start + other.size and other.start < spec.start + spec.size:
                    yield Finding(
                        ("nodes", spec.name, "start"),
                        f"the slice {spec.name!r} ({spec.start}+{spec.size}) overlaps "
                        f"{other.name!r} ({other.start}+{other.size}) of the same parent",
                    )
            by_parent.setdefault(spec.parent, []).append(spec)

    def _check_tree(self) -> Iterator[Finding]:
        try:
            order = storage_order(self._topology)
        except ValueError as error:
            ring = error.args[0]
            spec = next(spec for spec in self._topology.devices() if spec.name == ring[0])
            yield Finding(
                (_table(spec), spec.name, "nodes" if isinstance(spec, StorageSpec) else "parent"),
                f"{ring[0]!r} is below itself: {' <- '.join(ring)}; expected a tree",
            )
            return
        depths: dict[str, int] = {}
        for spec in order:
            depths[spec.name] = 1 + max((depths.get(name, 1) for name in _below(spec)), default=0)
            if depths[spec.name] == STATUS_DEPTH_MAX + 1:
                yield Finding(
                    (_table(spec), spec.name), f"the tree is deeper than {STATUS_DEPTH_MAX} levels at {spec.name!r}"
                )

    def _check_exports(self) -> Iterator[Finding]:
        used = self._topology.used()
        # A fence stands before each of these: nobody else can write while this daemon's storage owns them.
        guarded: set[str] = set()
        if self._topology.daemon.state_dir is not None:
            fenced = [spec for spec in self._topology.storages if spec.algorithm == "mirror"]
            guarded = {name for spec in fenced for name in (*spec.nodes, *spec.witnesses)}
        for export in self._topology.exports:
            place = ("exports", export.name, "device")
            if export.device not in self._known:
                known = did_you_mean(export.device, self._known)
                yield Finding(place, f"there is no node or storage {export.device!r}{known}")
            elif export.device in used - guarded and not export.read_only:
                yield Finding(
                    place,
                    f"{export.device!r} is part of another device: whoever writes to it destroys that; "
                    "export the whole, or this with read_only = true; a mirror's member may be exported by a daemon "
                    "that has a state_dir, so that another daemon can take the mirror over",
                )

    def _check_endpoints(self) -> Iterator[Finding]:
        topology, daemon = self._topology, self._topology.daemon
        known = self._providers.exports
        for protocol in topology.listeners:
            if protocol not in known:
                sentence = f"no plugin serves the protocol {protocol!r}{did_you_mean(protocol, known)}"
                yield Finding(("listeners", protocol), sentence)
        described: list[tuple[Place, ListenerSpec]] = [
            (("listeners", protocol, index), listener)
            for protocol, several in topology.listeners.items()
            for index, listener in enumerate(several)
        ]
        if len(described) > LISTENERS_MAX:
            yield Finding(("listeners",), f"there are {len(described)} listeners; {LISTENERS_MAX} is the most")
            return
        if daemon.admin is not None:
            described.append((("daemon", "admin"), ListenerSpec(daemon.admin, daemon.admin_tls)))
            if daemon.admin_tls == "optional":
                yield Finding(("daemon", "admin"), 'admin is HTTP or HTTPS, not both; expected tls = "required"')
        security_dir = topology.security_dir()
        if security_dir is not None and not os.path.isdir(security_dir):
            yield Finding(
                ("daemon", "security_dir"),
                f"there is no directory {security_dir}; expected one that `dst ca init` or `dst join` has made",
            )
        seen: set[str] = set()
        for place, listener in described:
            text = listener.endpoint
            wrong = wrong_with_endpoint(text)
            if not wrong and text in seen and not text.startswith("tcp:0"):
                wrong = f"{text!r} is there twice; one address serves one protocol"
            if not wrong:
                wrong = wrong_with_exposure(
                    listener, secured=security_dir is not None, open_to_the_network=daemon.open_to_the_network
                )
            if not wrong and listener.tls == "optional" and place[:2] == ("listeners", "dst"):
                wrong = "the DST protocol has TLS from the first byte or not at all; expected tls = off or required"
            if wrong:
                yield Finding(place, wrong)
            seen.add(text)


def _table(spec: NodeSpec | SliceSpec | StorageSpec) -> str:
    return "storages" if isinstance(spec, StorageSpec) else "nodes"


def _check_name(place: Place, name: str) -> Iterator[Finding]:
    if not _NAME.fullmatch(name) or name in (".", ".."):
        yield Finding(
            place,
            f"{name!r} is no name; expected up to {NAME_CHARACTERS_MAX} letters, digits, "
            "dots, hyphens and underscores",
        )
