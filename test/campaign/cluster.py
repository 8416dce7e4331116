"""
The daemons of one campaign: processes that are killed, stopped and started again, and the cables between them.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from random import SystemRandom
from typing import Any

from attrs import define, field, frozen

from dst.label.format import Label, find_label
from dst.label.region_table import RegionTable
from dst.label.zone import LABELS_BYTES, PAGE_BYTES, Zone, label_offset
from test.campaign.history import Violation
from test.campaign.load import Door
from test.campaign.proxy import Cable, Cables

__all__ = ["SHAPES", "CampaignCluster", "Daemon", "Shape"]

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = Path(__file__).resolve().parent / "plugins"

START_S_MAX = 60.0
REGION_BYTES = 64 << 10
MEDIA_MIB = 8

_PORTS = SystemRandom()
"""Not of the seed: campaigns run side by side."""

_RUN = "from twisted.scripts.twistd import run; run()"


@frozen
class Shape:
    """
    What a cluster is made of.

    @ivar nodes: C{"fragile"} or C{"file"}, by name: each a daemon of its own.
    @ivar owners: names of the daemons that may own the storage.
    @ivar witness: whether there is one, in a daemon of its own.
    """

    name: str
    nodes: dict[str, str]
    owners: tuple[str, ...] = ("owner",)
    witness: bool = False


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("two", {"a": "fragile", "b": "file"}),
        Shape("two-fragile", {"a": "fragile", "b": "fragile"}),
        Shape("three", {"a": "fragile", "b": "fragile", "c": "fragile"}),
        Shape("three-mixed", {"a": "fragile", "b": "file", "c": "fragile"}),
        Shape("standby", {"a": "fragile", "b": "fragile", "c": "fragile"}, ("owner", "other")),
        Shape("standby-witness", {"a": "fragile", "b": "file"}, ("owner", "other"), witness=True),
    )
}


@define(eq=False)
class Daemon:
    """
    One daemon, which is many processes one after the other.

    @ivar starts: how many there were.
    """

    name: str
    config: Path
    starts: int = 0
    process: subprocess.Popen[bytes] | None = None
    stopped: bool = False
    expected: bool = False
    log: Path = field(init=False)

    def start(self) -> None:
        """Begin another process; does not wait."""
        assert self.process is None, f"{self.name} is running"
        self.starts += 1
        self.log = self.config.parent / f"{self.name}.{self.starts}.log"
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{PLUGINS}", "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, "-c", _RUN, "--nodaemon", "--pidfile=", "dst", "--config", str(self.config)]
        with open(self.log, "wb") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)

    @property
    def running(self) -> bool:
        """Its process is there, perhaps stopped."""
        return self.process is not None and self.process.poll() is None

    @property
    def started(self) -> bool:
        """It has said that everything is started."""
        return self.running and b"everything is started" in self.log.read_bytes()

    def until_started(self) -> None:
        """@raise Violation: it does not start."""
        end = time.monotonic() + START_S_MAX
        while not self.started:
            if not self.running:
                said = self.log.read_text()[-2000:]
                raise Violation(
                    f"{self.name} ended by itself, with {self.process and self.process.returncode}:\n{said}"
                )
            if time.monotonic() > end:
                raise Violation(f"{self.name} was not started after {START_S_MAX:g} s; see {self.log}")
            time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.running:
            self.process.send_signal(number)
            self.stopped = number == signal.SIGSTOP or (self.stopped and number != signal.SIGCONT)

    def kill(self) -> None:
        """With C{SIGKILL}, until it is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process, self.stopped = None, False

    def has_died(self, limit_s: float) -> bool:
        """Wait for the end of a process that ends by itself."""
        assert self.process is not None
        try:
            self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return False
        self.process, self.stopped = None, False
        return True


_NODE = """\
[daemon]
name = "{name}"
state_dir = "{directory}/{name}-state"
[listeners]
dst = "tcp:{port}:interface=127.0.0.1"
[nodes.{name}]
uri = "{uri}"
[exports.{name}]
device = "{name}"
"""

_OWNER = """\
[daemon]
name = "{name}"
state_dir = "{directory}/{name}-state"
admin = "tcp:{admin}:interface=127.0.0.1"
[listeners]
nbd = "tcp:{nbd}:interface=127.0.0.1"
[storages.vol]
algorithm = "mirror"
nodes = [{nodes}]
region_size = "64K"
hot_regions = {hot}
flap_hold_s = 0.2
{more}
[exports.vol]
device = "vol"
"""


class CampaignCluster:
    """
    @ivar daemons: all of them, by name.
    @ivar cables: C{(owner, node)} to the cable between them; C{("client", owner)} to that of the client.
    """

    def __init__(self, shape: Shape, directory: Path, seed: int) -> None:
        self.shape = shape
        self.directory = directory
        directory.mkdir(parents=True)
        self._cables = Cables()
        self.cables: dict[tuple[str, str], Cable] = {}
        self.daemons: dict[str, Daemon] = {}
        places = [*shape.nodes, *(["witness"] if shape.witness else [])]
        ports = dict(
            zip(
                [*places, *[f"{kind} {owner}" for owner in shape.owners for kind in ("admin", "nbd")]],
                _free_ports(len(places) + 2 * len(shape.owners)),
                strict=True,
            )
        )
        for number, name in enumerate(places):
            kind = shape.nodes.get(name, "file")
            size = "256K" if name == "witness" else f"{MEDIA_MIB}M"
            uri = f"{kind}:{directory}/{name}.img?size={size}"
            if kind == "fragile":
                uri += f"&seed={seed * 16 + number}"
            self._config(name, _NODE.format(name=name, port=ports[name], uri=uri, directory=directory))
        self.admin_ports = {owner: ports[f"admin {owner}"] for owner in shape.owners}
        for number, owner in enumerate(shape.owners):
            more = []
            if shape.witness:
                more.append('witnesses = ["witness"]')
            if len(shape.owners) > 1:
                more.append(f'votes = "members"\nstandby = {"true" if number else "false"}')
            text = _OWNER.format(
                name=owner,
                admin=ports[f"admin {owner}"],
                nbd=ports[f"nbd {owner}"],
                nodes=", ".join(f'"{name}"' for name in shape.nodes),
                hot=(16, 256)[seed % 2],
                more="\n".join(more),
                directory=directory,
            )
            for name in places:
                cable = self.cables[owner, name] = self._cables.lay(f"{owner}-{name}", ports[name])
                text += f'[nodes.{name}]\nuri = "dst://127.0.0.1:{cable.port}/{name}"\n'
            self._config(owner, text)
            self.cables["client", owner] = self._cables.lay(f"client-{owner}", ports[f"nbd {owner}"])
        self.doors = [
            Door(owner, self.cables["client", owner].port, lambda owner=owner: (owner, self.daemons[owner].starts))  # type: ignore[misc]
            for owner in shape.owners
        ]

    def _config(self, name: str, text: str) -> None:
        path = self.directory / f"{name}.toml"
        path.write_text(text)
        self.daemons[name] = Daemon(name, path)

    def set_cable(self, cable: Cable, *args: Any, **kwargs: Any) -> None:
        """See L{Cables.set}."""
        self._cables.set(cable, *args, **kwargs)

    @property
    def places(self) -> list[str]:
        """The daemons that are no owners."""
        return [name for name in self.daemons if name not in self.shape.owners]

    def fragile(self, name: str) -> bool:
        """A kill of it is a loss of power."""
        return self.shape.nodes.get(name) == "fragile"

    def media(self, name: str) -> Path:
        return self.directory / f"{name}.img"

    # -- life

    def start_all(self) -> None:
        """Start whatever is not running, and wait until it is."""
        starting = [daemon for daemon in self.daemons.values() if not daemon.running]
        for daemon in starting:
            daemon.process = None
            daemon.start()
        for daemon in starting:
            daemon.until_started()

    def close(self) -> None:
        """Kill what is there."""
        for daemon in self.daemons.values():
            daemon.kill()
        self._cables.stop()

    # -- what the owners say

    def ask(self, owner: str, method: str, path: str, body: object = None, *, limit_s: float = 5.0) -> Any:
        """
        REST.

        @raise OSError: there is no answer.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_ports[owner], timeout=limit_s)
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
            return json.loads(connection.getresponse().read())
        except (http.client.HTTPException, ValueError) as error:
            raise OSError(f"{owner}: {error}") from None
        finally:
            connection.close()

    def status(self, owner: str) -> dict[str, Any] | None:
        """Of the storage, as this daemon sees it."""
        try:
            told = self.ask(owner, "GET", "/v1/status")
        except OSError:
            return None
        return next((tree for tree in told.get("storages", ()) if tree["name"] == "vol"), None)

    def whole(self, owner: str) -> bool:
        """This daemon serves the storage, every member is in sync and nothing is left to be done."""
        tree = self.status(owner)
        return (
            tree is not None
            and tree["health"] == "healthy"
            and tree["state"] == "ready"
            and tree["dirty_bytes"] == 0
            and tree["detail"].get("unreconciled_regions") == 0
            and {child["name"] for child in tree["members"] if child["state"] == "in-sync"} == set(self.shape.nodes)
        )

    def serving(self) -> str | None:
        """Whoever serves now; with several that say so, one of them."""
        for owner in self.shape.owners:
            if self.daemons[owner].running and not self.daemons[owner].stopped:
                tree = self.status(owner)
                if tree is not None and tree["state"] == "ready" and "claim" in tree["detail"]:
                    return owner
        return None

    def until_whole(self, limit_s: float) -> str:
        """
        @return: who serves.
        @raise Violation: it does not become so.
        """
        end = time.monotonic() + limit_s
        while True:
            for owner in self.shape.owners:
                if self.whole(owner):
                    return owner
            for daemon in self.daemons.values():
                if not daemon.running:
                    raise Violation(f"{daemon.name} ended by itself:\n{daemon.log.read_text()[-2000:]}")
            if time.monotonic() > end:
                told = json.dumps({owner: self.status(owner) for owner in self.shape.owners})
                raise Violation(f"not whole after {limit_s:g} s: {told}")
            time.sleep(0.05)

    # -- what is on the media

    def compare_media(self, content: bytes) -> None:
        """Every copy has what the storage was read as; all of it has been flushed."""
        for name in self.shape.nodes:
            with open(self.media(name), "rb") as source:
                data = source.read(len(content))
            if data != content:
                at = next(at for at in range(len(data)) if data[at] != content[at])
                raise Violation(f"the copy of {name} differs from what is read, first at byte {at}")

    def check_ages(self) -> int:
        """
        With everything off: members whose entries for a region are cold with equal ages have equal content there.

        @return: how many regions were compared.
        """
        found = {name: self._label_and_table(name) for name in self.shape.nodes}
        compared = 0
        names = [name for name, each in found.items() if each is not None]
        for index, one in enumerate(names):
            for other in names[:index]:
                compared += self._check_pair(one, found[one], other, found[other])  # type: ignore[arg-type]
        return compared

    def _check_pair(
        self, one: str, ours: tuple[Label, RegionTable], other: str, theirs: tuple[Label, RegionTable]
    ) -> int:
        (label, table), (_, their_table) = ours, theirs
        if table.regions != their_table.regions or label.storage_id != theirs[0].storage_id:
            return 0
        compared = 0
        with open(self.media(one), "rb") as left, open(self.media(other), "rb") as right:
            for region in range(table.regions):
                if not table.same(region, their_table):
                    continue
                compared += 1
                offset = region * label.region_size
                length = min(label.region_size, label.data_size - offset)
                left.seek(offset)
                right.seek(offset)
                if left.read(length) != right.read(length):
                    raise Violation(f"{one} and {other}: region {region} is cold with equal ages, and differs")
        return compared

    def _label_and_table(self, name: str) -> tuple[Label, RegionTable] | None:
        with open(self.media(name), "rb") as source:
            media = source.read()
        label = find_label(media[label_offset(len(media)) :][:LABELS_BYTES]).label
        if label is None:
            return None
        zone = Zone.at_end_of(label.media_size, label.region_size)
        table = RegionTable(zone.regions_of(label.data_size), label.storage_id)
        for page in range(table.pages):
            table.load_page(page, [media[zone.page_offset(page, slot) :][:PAGE_BYTES] for slot in (0, 1)])
        return label, table


def _free_ports(count: int) -> list[int]:
    """Below those that the system gives to connections: one must still be free when a daemon comes back to it."""
    ports: list[int] = []
    while len(ports) < count:
        port = _PORTS.randrange(12_000, 30_000)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        if port not in ports:
            ports.append(port)
    return ports
