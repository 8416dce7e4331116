"""
What a daemon is made of, as values, and the Python way to write it down.

A L{Topology} is flat: devices have names and refer to each other by them, as in a
TOML file.  A script nests them instead, and each function returns an expression::

    from dst.cluster.topology import export, file, mirror, remote, topology

    topology = topology(
        export(mirror("vol", file("a.img", size="64M"), remote("dst://10.0.0.2/b"))),
        state_dir="state",
        nbd="tcp:10809:interface=127.0.0.1",
    )

An expression is a device: used at two places it is the same device at both.  A name that is not
given comes from the path or the address (C{a.img} is C{a}), else from the device
above it (C{vol-1}).  Nothing here is checked but what the shape itself
demands: L{dst.cluster.rules} does, the same for both ways.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import TypeAlias
from urllib.parse import quote, unquote

from attrs import field, frozen

from dst.cluster.hook_specs import HookSpec, hook_from_plain
from dst.cluster.listening import Listeners, ListenerSpec, as_listeners, listener_from_plain
from dst.errors import ConfigurationError
from dst.geometry import parse_size
from dst.identity import AccessRule, access_rule_from_plain

__all__ = [
    "Daemon",
    "Device",
    "Export",
    "ExportSpec",
    "ListenerSpec",
    "Listeners",
    "NodeSpec",
    "SliceSpec",
    "StorageSpec",
    "Topology",
    "absolute_uri",
    "as_topology",
    "export",
    "file",
    "linear",
    "memory",
    "mirror",
    "nbd",
    "node",
    "remote",
    "slice_of",
    "storage",
    "stripe",
    "topology",
]

Options: TypeAlias = dict[str, object]


@frozen
class NodeSpec:
    """
    A node: whatever a provider makes of C{uri}.

    @ivar uri: as it was written; L{absolute_uri} makes its path absolute.
    @ivar options: what was said of it besides, for the provider.
    """

    name: str
    uri: str
    options: Options = field(factory=dict)

    @property
    def scheme(self) -> str:
        """What chooses the provider, in lower case."""
        return self.uri.partition(":")[0].lower()


@frozen
class SliceSpec:
    """C{size} bytes of the device C{parent} from C{start}, as a device of their own."""

    name: str
    parent: str
    start: int
    size: int


@frozen
class StorageSpec:
    """
    The devices named in C{nodes} behind one algorithm.

    @ivar witnesses: nodes that vote and have no data.
    """

    name: str
    algorithm: str
    nodes: tuple[str, ...]
    options: Options = field(factory=dict)
    witnesses: tuple[str, ...] = ()


@frozen
class ExportSpec:
    """
    The device C{device}, served under C{name} over every listener.

    @ivar allow: who may use it; an empty list means nobody, C{None} this machine only.
    """

    name: str
    device: str
    read_only: bool = False
    allow: tuple[AccessRule, ...] | None = None


@frozen
class Daemon:
    """
    The process itself.

    @ivar state_dir: where it keeps what must survive a restart; C{None}: nothing is kept but what is on the nodes.
    @ivar admin: the endpoint string of REST and web page; C{None}: neither is served.
    @ivar name: what other daemons and people call it; C{None} for the machine's name.
    @ivar security_dir: where its certificate and those it trusts are; C{None}: C{STATE_DIR/security}, if it exists.
    @ivar open_to_the_network: it may listen beyond this machine without TLS.
    @ivar admin_tls: whether C{admin} is HTTPS, as L{ListenerSpec.tls}.
    @ivar operators: users, and groups as C{"@group"}, who may operate it over a UNIX socket at C{admin}.
    """

    state_dir: str | None = None
    admin: str | None = None
    name: str | None = None
    security_dir: str | None = None
    open_to_the_network: bool = False
    admin_tls: str | None = None
    operators: tuple[str, ...] = ()


@frozen
class Topology:
    """
    Everything that one daemon runs.

    @ivar base_dir: what relative paths are relative to.
    @ivar hooks: who is told of events.
    """

    nodes: tuple[NodeSpec, ...] = ()
    slices: tuple[SliceSpec, ...] = ()
    storages: tuple[StorageSpec, ...] = ()
    exports: tuple[ExportSpec, ...] = ()
    listeners: Listeners = field(factory=dict, converter=as_listeners)
    daemon: Daemon = Daemon()
    base_dir: str = "."
    hooks: tuple[HookSpec, ...] = ()

    def path(self, path: str) -> str:
        """C{path}, absolute."""
        return os.path.join(os.path.abspath(self.base_dir), os.path.expanduser(path))

    def security_dir(self) -> str | None:
        """The absolute path of its security directory; C{None} if it says none and there is none."""
        if self.daemon.security_dir is not None:
            return self.path(self.daemon.security_dir)
        if self.daemon.state_dir is None:
            return None
        usual = os.path.join(self.path(self.daemon.state_dir), "security")
        return usual if os.path.isdir(usual) else None

    def devices(self) -> Iterator[NodeSpec | SliceSpec | StorageSpec]:
        """Nodes, slices and storages, in the order in which they were written."""
        yield from self.nodes
        yield from self.slices
        yield from self.storages

    def used(self) -> frozenset[str]:
        """The names of devices that are below another one."""
        members = {name for spec in self.storages for name in (*spec.nodes, *spec.witnesses)}
        return frozenset(members | {spec.parent for spec in self.slices})


_DAEMON_WORDS = (
    "admin",
    "base_dir",
    "hooks",
    "name",
    "open_to_the_network",
    "operators",
    "security_dir",
    "state_dir",
)
_SOCKET = re.compile(r"(?<=[?&]socket=)[^&/][^&]*")


def absolute_uri(uri: str, base_dir: str) -> str:
    """
    C{uri} with the path in it absolute: that of C{file:}, and that of a C{?socket=}.
    """
    scheme, _, rest = uri.partition(":")
    if scheme.lower() == "file" and not rest.startswith("/"):
        path, mark, query = rest.partition("?")
        if path:
            uri = f"{scheme}:{_quoted(os.path.join(base_dir, unquote(path)))}{mark}{query}"
    return _SOCKET.sub(lambda match: _quoted(os.path.join(base_dir, unquote(match[0]))), uri)


def _quoted(path: str) -> str:
    return quote(re.sub("^//+", "/", os.path.abspath(path)), safe="/")


# -- the Python way --------------------------------------------------------------


@frozen(eq=False)
class NodeExpression:
    """A node in a script; C{stem} is what its name is made from when it has none."""

    name: str | None
    stem: str
    uri: str
    options: Options


@frozen(eq=False)
class SliceExpression:
    """A part of another device in a script."""

    name: str | None
    parent: Device
    start: int
    size: int


@frozen(eq=False)
class StorageExpression:
    """A storage in a script."""

    name: str
    algorithm: str
    members: tuple[Device, ...]
    options: Options
    witnesses: tuple[Device, ...] = ()


Device: TypeAlias = NodeExpression | SliceExpression | StorageExpression


@frozen(eq=False)
class Export:
    """A device that a script exports; its own name unless it says another one."""

    device: Device
    name: str | None
    read_only: bool
    allow: tuple[AccessRule, ...] | None = None


def node(uri: str, *, name: str | None = None, **options: object) -> NodeExpression:
    """A node from a URI of any scheme that a plugin serves."""
    path = unquote(uri.partition(":")[2].partition("?")[0])
    return NodeExpression(name, PurePath(path).stem, uri, options)


def file(path: str | os.PathLike[str], *, name: str | None = None, **options: object) -> NodeExpression:
    """
    A file or raw block device.

    @param options: as in the URI: C{size="64M"} creates a missing file, C{read_only=True}.
    """
    return node(f"file:{quote(os.fspath(path), safe='/')}", name=name, **options)


def memory(size: int | str, *, name: str | None = None, **options: object) -> NodeExpression:
    """A device that lives as long as the process."""
    return node("memory:", name=name, size=size, **options)


def remote(uri: str, *, name: str | None = None, **options: object) -> NodeExpression:
    """The export of another daemon: C{dst://host:port/name}."""
    return node(uri, name=name, **options)


def nbd(uri: str, *, name: str | None = None, **options: object) -> NodeExpression:
    """The export of a foreign NBD server: C{nbd://host:port/name} or C{nbd+unix:///name?socket=/path}."""
    return node(uri, name=name, **options)


def slice_of(parent: Device, start: int | str, size: int | str, *, name: str | None = None) -> SliceExpression:
    """C{size} bytes of C{parent} from C{start}."""
    return SliceExpression(name, parent, _size("start", start), _size("size", size))


def storage(
    algorithm: str, name: str, /, *members: Device, witnesses: Sequence[Device] = (), **options: object
) -> StorageExpression:
    """
    A storage of any algorithm that a plugin provides.

    @param witnesses: nodes that vote and have no data.
    """
    return _storage(algorithm, name, members, tuple(witnesses), options)


def _storage(
    algorithm: str, name: str, members: tuple[Device, ...], witnesses: tuple[Device, ...], options: Options
) -> StorageExpression:
    for member in (*members, *witnesses):
        if not isinstance(member, NodeExpression | SliceExpression | StorageExpression):
            raise ConfigurationError(
                f"storage {name!r} has the member {member!r}; expected a device, as file('a.img')"
            )
    return StorageExpression(name, algorithm, members, options, witnesses)


def mirror(name: str, /, *members: Device, witnesses: Sequence[Device] = (), **options: object) -> StorageExpression:
    """Every member has everything."""
    return storage("mirror", name, *members, witnesses=witnesses, **options)


def linear(name: str, /, *members: Device, **options: object) -> StorageExpression:
    """One member after the other."""
    return _storage("linear", name, members, (), options)


def stripe(name: str, /, *members: Device, **options: object) -> StorageExpression:
    """Chunks in turn over the members."""
    return _storage("stripe", name, members, (), options)


def export(
    device: Device,
    *,
    name: str | None = None,
    read_only: bool = False,
    allow: Sequence[AccessRule | dict[str, str]] | None = None,
) -> Export:
    """
    Serve C{device} over every listener.

    @param allow: who may use it, as C{[{"access": "write", "identity": "alpha"}]}; C{None} is this machine only.
    """
    return Export(device, name, read_only, None if allow is None else tuple(_rule(each) for each in allow))


def _rule(said: object) -> AccessRule:
    if isinstance(said, AccessRule):
        return said
    try:
        return access_rule_from_plain(said)
    except ValueError as error:
        raise ConfigurationError(f"an export's allow: {error}") from None


def topology(
    *things: Device | Export,
    state_dir: str | os.PathLike[str] | None = None,
    admin: str | ListenerSpec | None = None,
    name: str | None = None,
    base_dir: str | os.PathLike[str] = ".",
    security_dir: str | os.PathLike[str] | None = None,
    open_to_the_network: bool = False,
    operators: Sequence[str] = (),
    hooks: Sequence[HookSpec | dict[str, object]] = (),
    **listeners: str | ListenerSpec | Sequence[str | ListenerSpec],
) -> Topology:
    """
    Everything that one daemon runs.

    @param things: devices and exports; what stands below them need not be named again.
    @param name: what other daemons and people call this one; the machine's name if it is not given.
    @param base_dir: what relative paths are relative to; of a script that a daemon runs, the script's directory.
    @param security_dir: where the daemon's certificate is; if it is not given C{STATE_DIR/security}, if that exists.
    @param open_to_the_network: it may listen beyond this machine without TLS.
    @param operators: users, and groups as C{"@group"}, who may operate it over a UNIX socket.
    @param hooks: who is told of events, as C{[{"on": ["health"], "command": ["/usr/local/bin/page-me"]}]}.
    @param listeners: an endpoint string, a L{ListenerSpec}, or several by protocol: C{dst=} for other daemons,
        C{nbd=} for NBD clients.
    @raise ConfigurationError: something is no device, two devices would get one name, or a word means nothing.
    """
    flat = _Flattening()
    exports = []
    for number, thing in enumerate(things, 1):
        if isinstance(thing, Export):
            device = flat.add(thing.device, f"export-{number}")
            exports.append(ExportSpec(thing.name or device, device, thing.read_only, thing.allow))
        else:
            flat.add(thing, f"node-{number}")
    door = None if admin is None else listener_from_plain(admin)
    return Topology(
        tuple(flat.nodes),
        tuple(flat.slices),
        tuple(flat.storages),
        tuple(exports),
        {protocol: _endpoints(protocol, said) for protocol, said in listeners.items()},
        Daemon(
            None if state_dir is None else os.fspath(state_dir),
            None if door is None else door.endpoint,
            name,
            None if security_dir is None else os.fspath(security_dir),
            open_to_the_network,
            None if door is None else door.tls,
            tuple(operators),
        ),
        os.fspath(base_dir),
        tuple(_hook(each) for each in hooks),
    )


def _hook(said: object) -> HookSpec:
    try:
        return hook_from_plain(said)
    except ValueError as error:
        raise ConfigurationError(f"hooks: {error}") from None


def as_topology(value: object) -> Topology:
    """
    What a script may call its topology: one, a device, or an export.

    @raise ConfigurationError: it is none of them.
    """
    if isinstance(value, Topology):
        return value
    if isinstance(value, NodeExpression | SliceExpression | StorageExpression | Export):
        return topology(value)
    raise ConfigurationError(f"{value!r} is no topology; expected topology(...), a device or an export")


class _Flattening:
    """Expressions to flat values, each device once."""

    def __init__(self) -> None:
        self.nodes: list[NodeSpec] = []
        self.slices: list[SliceSpec] = []
        self.storages: list[StorageSpec] = []
        self._names: dict[Device, str] = {}
        self._taken: set[str] = set()

    def add(self, device: Device, fallback: str) -> str:
        """
        Add C{device} and what is below it.

        @param fallback: its name if nothing better is to be had.
        @return: its name.
        """
        if device in self._names:
            return self._names[device]
        match device:
            case NodeExpression(name=given, stem=stem, uri=uri, options=options):
                name = self._take(device, given, re.sub(r"[^A-Za-z0-9._-]+", "-", stem)[:64] or fallback)
                self.nodes.append(NodeSpec(name, uri, dict(options)))
            case SliceExpression(name=given, parent=below, start=start, size=size):
                parent = self.add(below, fallback)
                name = self._take(device, given, f"{parent}-{start}")
                self.slices.append(SliceSpec(name, parent, start, size))
            case StorageExpression(
                name=given, algorithm=algorithm, members=members, options=options, witnesses=witnesses
            ):
                name = self._take(device, given, given)
                nodes = tuple(self.add(member, f"{name}-{number}") for number, member in enumerate(members, 1))
                votes = tuple(self.add(each, f"{name}-witness-{number}") for number, each in enumerate(witnesses, 1))
                self.storages.append(StorageSpec(name, algorithm, nodes, dict(options), votes))
            case _:
                raise ConfigurationError(f"{device!r} is no device; expected one, as mirror('vol', ...)")
        return name

    def _take(self, device: Device, given: str | None, made: str) -> str:
        name = made if given is None else given
        if name in self._taken:
            raise ConfigurationError(f"two devices are called {name!r}; give one of them another name=")
        self._taken.add(name)
        self._names[device] = name
        return name


def _endpoints(protocol: str, said: object) -> tuple[ListenerSpec, ...]:
    meant = difflib.get_close_matches(protocol, _DAEMON_WORDS, n=1, cutoff=0.8)
    if meant:
        raise ConfigurationError(f"a topology has no {protocol}=; did you mean {meant[0]}=?")
    several = said if isinstance(said, list | tuple) else (said,)
    try:
        return tuple(listener_from_plain(each) for each in several)
    except ValueError as error:
        sentence = f"a topology has {protocol}={said!r}; expected an endpoint string or several"
        raise ConfigurationError(sentence if isinstance(several[0], str) else f"{sentence}: {error}") from None


def _size(what: str, value: int | str) -> int:
    try:
        return parse_size(str(value))
    except ValueError as error:
        raise ConfigurationError(f"the {what} of a slice: {error}") from None
