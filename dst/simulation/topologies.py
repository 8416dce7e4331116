"""
Clusters to simulate: those that come along, and a person's own, made ready for it.

Every daemon gets a host and an address of its own; whoever refers to it is told so.  Disks are as small as
their storage still makes sense, so that a resync takes seconds and not hours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urlsplit

from attrs import evolve, field, frozen

from dst.cluster.listening import ListenerSpec
from dst.cluster.topology import (
    Daemon,
    Device,
    NodeSpec,
    StorageSpec,
    Topology,
    absolute_uri,
    export,
    file,
    mirror,
    remote,
    stripe,
    topology,
)
from dst.errors import ConfigurationError
from dst.identity import Access, AccessRule
from dst.simulation.world import Host

__all__ = ["BUILT_IN", "Layout", "adapted", "built_in"]

DRIVE_BYTES = 1 << 20
"""A disk unless its topology says something smaller: a dozen regions of the smallest size, and the zone."""

REGION_SIZE = "64K"
PORT = 7450


@frozen
class Layout:
    """
    What is simulated.

    @ivar daemons: a topology each, by name, with addresses that fit together.
    @ivar storages: those that clients use, each with the daemons that may serve it.
    @ivar said: what was changed to make it so, in sentences.
    """

    name: str
    daemons: Mapping[str, Topology]
    storages: Mapping[str, tuple[str, ...]]
    said: tuple[str, ...] = ()
    sizes: Mapping[tuple[str, str], int] = field(factory=dict)

    def size_of(self, host: Host, path: str, said: int | None) -> int:
        """How large the drive at C{path} is made."""
        known = self.sizes.get((host.name, path))
        return known if known is not None else min(said or DRIVE_BYTES, DRIVE_BYTES)


# -- those that come along


def _node(name: str) -> tuple[str, Topology]:
    """A daemon that only has a disk."""
    disk = file(f"/{name}.img", name=name, size="1M")
    return name, topology(export(disk), state_dir=f"/state-{name}", dst=f"tcp:{PORT}")


def _remote(name: str) -> Device:
    return remote(f"dst://{name}:{PORT}/{name}", name=f"on-{name}")


def _mirror(nodes: int, *, local: bool = False, standby: bool = False, **options: object) -> dict[str, Topology]:
    names = [f"n{number}" for number in range(nodes - local)]
    daemons = dict(map(_node, names))
    for owner in ("owner", "standby")[: 1 + standby]:
        members = [_remote(name) for name in names]
        if local:
            members.insert(0, file("/local.img", name="local", size="1M"))
        more = {"standby": True} if owner == "standby" else {}
        storage = mirror("vol", *members, region_size=REGION_SIZE, hot_regions=3, **options, **more)  # type: ignore[arg-type]
        daemons[owner] = topology(storage, state_dir=f"/state-{owner}")
    return daemons


def _with_witness(nodes: int, *, standby: bool) -> dict[str, Topology]:
    daemons = _mirror(nodes, standby=standby, votes="members", witnesses=[_remote("w")])
    witness = file("/w.img", name="w", size="128K")
    daemons["w"] = topology(export(witness), state_dir="/state-w", dst=f"tcp:{PORT}")
    return daemons


def _tree() -> dict[str, Topology]:
    """A mirror of a local disk and a remote mirror of two remote disks, one of them a mirror's export itself."""
    daemons = dict(map(_node, ("n0", "n1", "n2")))
    inner = mirror("inner", _remote("n0"), _remote("n1"), region_size=REGION_SIZE, hot_regions=3)
    daemons["middle"] = topology(export(inner), state_dir="/state-middle", dst=f"tcp:{PORT}")
    outer = mirror(
        "vol",
        file("/local.img", name="local", size="1M"),
        remote(f"dst://middle:{PORT}/inner", name="on-middle"),
        _remote("n2"),
        region_size=REGION_SIZE,
        hot_regions=3,
    )
    daemons["owner"] = topology(outer, state_dir="/state-owner")
    return daemons


def _stripe_of_mirrors() -> dict[str, Topology]:
    daemons = dict(map(_node, ("n0", "n1", "n2", "n3")))
    left = mirror("left", _remote("n0"), _remote("n1"), region_size=REGION_SIZE, hot_regions=3)
    right = mirror("right", _remote("n2"), _remote("n3"), region_size=REGION_SIZE, hot_regions=3)
    daemons["owner"] = topology(stripe("vol", left, right, chunk_size="64K"), state_dir="/state-owner")
    return daemons


BUILT_IN: dict[str, tuple[str, Callable[[], dict[str, Topology]]]] = {
    "mirror-2": ("a disk here and one there", lambda: _mirror(2, local=True)),
    "mirror-2-remote": ("two disks elsewhere", lambda: _mirror(2)),
    "mirror-3": ("three disks elsewhere", lambda: _mirror(3)),
    "mirror-5": ("five disks elsewhere", lambda: _mirror(5)),
    "mirror-2-witness": ("two disks elsewhere and a witness", lambda: _with_witness(2, standby=False)),
    "mirror-2-standby": (
        "two disks elsewhere, a witness, and a second daemon that takes over",
        lambda: _with_witness(2, standby=True),
    ),
    "mirror-3-standby": (
        "three disks elsewhere, and a second daemon that takes over",
        lambda: _mirror(3, standby=True, votes="members"),
    ),
    "mirror-5-standby": (
        "five disks elsewhere, and a second daemon that takes over",
        lambda: _mirror(5, standby=True, votes="members"),
    ),
    "tree": ("a mirror one of whose members is a mirror elsewhere: five daemons", _tree),
    "stripe-of-mirrors": ("two mirrors side by side", _stripe_of_mirrors),
}
"""By name: what it is, and what makes it."""


def built_in(name: str) -> Layout:
    """
    A cluster that comes along.

    @raise ConfigurationError: there is none of that name.
    """
    if name not in BUILT_IN:
        raise ConfigurationError(f"there is no topology {name!r} here; there are: {', '.join(sorted(BUILT_IN))}")
    return adapted(name, BUILT_IN[name][1](), scale=False)


# -- anybody's


def adapted(name: str, given: Mapping[str, Topology], *, scale: bool = True) -> Layout:
    """
    Topologies of daemons that know each other, made ready.

    @param scale: disks are made smaller and regions smaller with them.
    @raise ConfigurationError: there is no storage in them.
    """
    return _Adapting(name, given, scale).layout()


class _Adapting:
    def __init__(self, name: str, given: Mapping[str, Topology], scale: bool) -> None:
        self.name = name
        self.given = dict(given)
        self.scale = scale
        self.said: list[str] = []
        self.addresses = {daemon: f"10.77.0.{number}" for number, daemon in enumerate(given, 1)}
        self.used: set[tuple[str, str]] = set()
        self.sizes: dict[tuple[str, str], int] = {}

    def layout(self) -> Layout:
        daemons: dict[str, Topology] = {}
        waiting = list(self.given)
        while waiting:
            daemon = waiting.pop(0)
            before = len(self.given)
            daemons[daemon] = self._adapt(daemon, self.given[daemon])
            waiting += list(self.given)[before:]
        storages: dict[str, tuple[str, ...]] = {}
        for daemon, each in daemons.items():
            below = each.used()
            for storage in each.storages:
                exported = {export.name for export in each.exports if export.device == storage.name}
                if storage.name in below or any((daemon, export) in self.used for export in exported):
                    continue
                storages[storage.name] = (*storages.get(storage.name, ()), daemon)
        if not storages:
            raise ConfigurationError(f"{self.name} has no storage: there is nothing to rehearse")
        return Layout(self.name, daemons, storages, tuple(self.said), self.sizes)

    def _adapt(self, daemon: str, there: Topology) -> Topology:
        nodes = tuple(self._node(daemon, spec, there) for spec in there.nodes)
        listeners: dict[str, tuple[str | ListenerSpec, ...]] = {}
        ports = [_port_of(each.endpoint) for each in there.listeners.get("dst", ())]
        if ports:
            listeners["dst"] = tuple(f"tcp:{port}:interface={self.addresses[daemon]}" for port in ports)
        storages = there.storages
        if self.scale:
            storages = tuple(self._storage(spec) for spec in storages)
        state_dir = there.daemon.state_dir
        if state_dir is not None and not state_dir.startswith("/"):
            state_dir = f"/{state_dir}"
        return evolve(
            there,
            nodes=nodes,
            storages=storages,
            # Who may is not rehearsed: the daemons of a rehearsal are whom they say they are, and trust each other.
            exports=tuple(evolve(each, allow=(AccessRule(Access.WRITE),)) for each in there.exports),
            listeners=listeners,
            daemon=Daemon(state_dir, None, there.daemon.name or daemon, open_to_the_network=True),
            base_dir="/",
        )

    def _storage(self, spec: StorageSpec) -> StorageSpec:
        if spec.algorithm != "mirror" or "region_size" in spec.options:
            return spec
        return evolve(spec, options={**spec.options, "region_size": REGION_SIZE})

    def _node(self, daemon: str, spec: NodeSpec, there: Topology) -> NodeSpec:
        uri = absolute_uri(spec.uri, there.base_dir)
        if spec.scheme == "file":
            path = urlsplit(uri).path
            if self.scale:
                self._scale(daemon, path, spec, there)
            return evolve(spec, uri=uri)
        if spec.scheme in ("dst", "dst+unix"):
            kept = {key: value for key, value in spec.options.items() if key not in ("tls", "peer")}
            return evolve(spec, uri=self._remote_uri(spec, uri), options=kept)
        if spec.scheme in ("nbd", "nbd+unix", "nbds", "nbds+unix"):
            self.said.append(f"{spec.name} is a server of another kind; a disk stands in for it")
            if spec.scheme.startswith("nbds"):
                kept = {key: value for key, value in spec.options.items() if key != "peer"}
                return evolve(spec, uri=_without(f"nbd{spec.uri[4:]}", "peer"), options=kept)
        return spec

    def _scale(self, daemon: str, path: str, spec: NodeSpec, there: Topology) -> None:
        sliced = [each for each in there.slices if each.parent == spec.name]
        if sliced:
            self.sizes[daemon, path] = max(each.start + each.size for each in sliced)
        else:
            self.sizes[daemon, path] = DRIVE_BYTES
            sentence = f"disks are made {DRIVE_BYTES >> 20} MiB large, and regions {REGION_SIZE}iB"
            if sentence not in self.said:
                self.said.append(sentence)

    def _remote_uri(self, spec: NodeSpec, uri: str) -> str:
        parts = urlsplit(uri)
        if spec.scheme == "dst":
            host, port, name = parts.hostname or "", parts.port or PORT, parts.path.lstrip("/")
        else:
            host, port, name = (
                parts.path,
                0,
                dict(each.split("=", 1) for each in parts.query.split("&") if "=" in each).get(
                    "export", str(spec.options.get("export", ""))
                ),
            )
        server = self._server(host, port, name)
        if server is None:
            server = self._invent(spec, host, port, name)
        there = self.given[server]
        self.used.add((server, name))
        ports = [_port_of(each.endpoint) for each in there.listeners.get("dst", ())]
        port = port if port in ports else (ports or [PORT])[0]
        query = f"?{parts.query}" if parts.query and spec.scheme == "dst" else ""
        return _without(f"dst://{self.addresses[server]}:{port}/{name}{query}", "tls", "peer")

    def _server(self, host: str, port: int, name: str) -> str | None:
        """The daemon that is meant: the one of that name, or that listens there and exports such a thing."""
        matching = []
        for daemon, there in self.given.items():
            if not any(export.name == name for export in there.exports):
                continue
            if daemon == host:
                return daemon
            for listener in (each.endpoint for each in there.listeners.get("dst", ())):
                interface = _word(listener, "interface")
                if port and _port_of(listener) == port and interface in (host, "", "0.0.0.0"):
                    matching.append((interface != host, daemon))
                elif not port and listener.endswith(host.rpartition("/")[2]):
                    matching.append((False, daemon))
        return min(matching)[1] if matching else None

    def _invent(self, spec: NodeSpec, host: str, port: int, name: str) -> str:
        """A plain daemon with a disk, for a remote node whose daemon's file was not given."""
        daemon = f"{host}:{port}"
        if daemon in self.given:
            raise ConfigurationError(
                f"{spec.name}: several exports of the daemon at {daemon} are used; give its file, too"
            )
        disk = file(f"/{name}.img", name=name, size=DRIVE_BYTES)
        self.given[daemon] = topology(export(disk), state_dir="/state", dst=f"tcp:{port or PORT}")
        self.addresses[daemon] = f"10.77.0.{len(self.addresses) + 1}"
        self.said.append(
            f"the daemon at {daemon} is simulated with a disk; give its file to rehearse what it really runs"
        )
        return daemon


def _without(uri: str, *keys: str) -> str:
    """C{uri} without these settings: there are no certificates in a rehearsal."""
    rest, _, query = uri.partition("?")
    kept = [each for each in query.split("&") if each and each.partition("=")[0] not in keys]
    return f"{rest}?{'&'.join(kept)}" if kept else rest


def _port_of(listener: str) -> int:
    kind, *arguments = listener.split(":")
    if kind not in ("tcp", "tcp6", "ssl") or not arguments:
        return PORT
    text = _word(listener, "port") or arguments[0]
    return int(text) if text.isdigit() and int(text) else PORT


def _word(listener: str, key: str) -> str:
    found: Iterable[str] = (part[len(key) + 1 :] for part in listener.split(":") if part.startswith(key + "="))
    return next(iter(found), "")
