"""Tests of L{dst.cluster.topology}: the Python way to write a topology."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dst.cluster.topology import (
    Daemon,
    ExportSpec,
    ListenerSpec,
    NodeSpec,
    SliceSpec,
    StorageSpec,
    absolute_uri,
    as_topology,
    export,
    file,
    linear,
    memory,
    mirror,
    nbd,
    node,
    remote,
    slice_of,
    storage,
    stripe,
    topology,
)
from dst.errors import ConfigurationError


class ExpressionTests(SynchronousTestCase):
    """Nested expressions become flat values."""

    def test_nested(self) -> None:
        """A tree of any depth is flattened, below before above where names are made."""
        made = topology(
            export(
                stripe(
                    "fast",
                    mirror("left", file("/d/a.img", size="64M"), remote("dst://10.0.0.2/b")),
                    linear("right", nbd("nbd://h/c"), memory("1M", name="m")),
                    chunk_size="64K",
                )
            ),
            state_dir="state",
            admin="tcp:7480",
            nbd=("tcp:10809", "unix:/n"),
        )
        self.assertEqual(
            (
                NodeSpec("a", "file:/d/a.img", {"size": "64M"}),
                NodeSpec("b", "dst://10.0.0.2/b", {}),
                NodeSpec("c", "nbd://h/c", {}),
                NodeSpec("m", "memory:", {"size": "1M"}),
            ),
            made.nodes,
        )
        self.assertEqual(
            {
                StorageSpec("left", "mirror", ("a", "b")).name: ("a", "b"),
                "right": ("c", "m"),
                "fast": ("left", "right"),
            },
            {spec.name: spec.nodes for spec in made.storages},
        )
        self.assertEqual({"chunk_size": "64K"}, next(s for s in made.storages if s.name == "fast").options)
        self.assertEqual((ExportSpec("fast", "fast", False),), made.exports)
        self.assertEqual({"nbd": (ListenerSpec("tcp:10809"), ListenerSpec("unix:/n"))}, made.listeners)
        self.assertEqual(Daemon("state", "tcp:7480"), made.daemon)

    def test_same_device_twice(self) -> None:
        """An expression used at two places is one device."""
        disk = file("disk.img")
        made = topology(
            linear("l", slice_of(disk, 0, "1M"), slice_of(disk, "1M", "2M", name="second")),
            export(disk, name="raw", read_only=True),
        )
        self.assertEqual(["disk"], [spec.name for spec in made.nodes])
        self.assertEqual(
            (SliceSpec("disk-0", "disk", 0, 1 << 20), SliceSpec("second", "disk", 1 << 20, 2 << 20)), made.slices
        )
        self.assertEqual((ExportSpec("raw", "disk", True),), made.exports)

    def test_made_up_names(self) -> None:
        """A device without a natural name gets one from the storage above it."""
        made = topology(mirror("vol", memory("1M"), memory("1M")), memory("1M"))
        self.assertEqual(["vol-1", "vol-2", "node-2"], [spec.name for spec in made.nodes])

    def test_odd_path(self) -> None:
        """What cannot stand in a URI is quoted, and what cannot stand in a name is replaced."""
        made = topology(file(Path("/d/my disk?100%.img")))
        self.assertEqual(("my-disk-100-", "file:/d/my%20disk%3F100%25.img"), (made.nodes[0].name, made.nodes[0].uri))

    def test_two_of_a_name(self) -> None:
        """Two devices of one name are refused, with what to do."""
        with self.assertRaises(ConfigurationError) as caught:
            topology(mirror("vol", file("/a/disk.img"), file("/b/disk.img")))
        self.assertEqual("two devices are called 'disk'; give one of them another name=", caught.exception.message)

    def test_no_device(self) -> None:
        """What is no device is refused where it stands."""
        for make in (
            lambda: mirror("vol", "a.img"),
            lambda: topology("vol"),
            lambda: topology(mirror),
            lambda: as_topology({"nodes": []}),
        ):
            self.assertRaises(ConfigurationError, make)
        self.assertRaises(ConfigurationError, slice_of, memory(1), "lots", 1)

    def test_any_scheme_and_algorithm(self) -> None:
        """What a third party provides needs no function of its own."""
        made = as_topology(storage("twin", "t", node("tape:/x", speed=3), memory("1M")))
        self.assertEqual(NodeSpec("x", "tape:/x", {"speed": 3}), made.nodes[0])
        self.assertEqual("twin", made.storages[0].algorithm)

    def test_listeners(self) -> None:
        """Any word may be a protocol, because a third party may serve it; several addresses stand in a row."""
        made = topology(memory("1M"), iscsi="tcp:3260", nbd=["tcp:1", "unix:n"], dst=())
        told = {protocol: [each.plain() for each in several] for protocol, several in made.listeners.items()}
        self.assertEqual({"iscsi": ["tcp:3260"], "nbd": ["tcp:1", "unix:n"], "dst": []}, told)

    def test_misspelt(self) -> None:
        """A word that is nearly one of a topology's own is taken for that one and refused."""
        with self.assertRaises(ConfigurationError) as caught:
            topology(memory("1M"), state_dri="state")
        self.assertEqual("a topology has no state_dri=; did you mean state_dir=?", caught.exception.message)

    def test_no_endpoint(self) -> None:
        """A listener that is no text is refused where it stands."""
        for value in (10809, ["tcp:1", 2], None, Path("/run/nbd.sock"), {"tcp:1"}):
            with self.assertRaises(ConfigurationError) as caught:
                topology(memory("1M"), nbd=value)
            self.assertIn("a topology has nbd=", caught.exception.message)
            self.assertIn("expected an endpoint string or several", caught.exception.message)

    def test_used(self) -> None:
        """Members and the parents of slices are below something, nothing else is."""
        disk = memory("2M", name="disk")
        made = topology(mirror("vol", slice_of(disk, 0, "1M", name="s"), memory("1M")), memory("1M", name="spare"))
        self.assertEqual({"disk", "s", "vol-2"}, made.used())


class PathTests(SynchronousTestCase):
    """Paths are relative to the file that names them."""

    def test_uri(self) -> None:
        """The path of a file and of a socket become absolute; nothing else changes."""
        for uri, expected in [
            ("file:a.img?size=64M", "file:/base/a.img?size=64M"),
            ("file:../a%20b.img", "file:/a%20b.img"),
            ("file:/x/a.img", "file:/x/a.img"),
            ("file:///x/a.img", "file:///x/a.img"),
            ("FILE:a", "FILE:/base/a"),
            ("file:", "file:"),
            ("nbd+unix:///vol?socket=run/nbd.sock", "nbd+unix:///vol?socket=/base/run/nbd.sock"),
            ("nbd+unix:///vol?x=1&socket=s&y=2", "nbd+unix:///vol?x=1&socket=/base/s&y=2"),
            ("nbd+unix:///vol?socket=/s", "nbd+unix:///vol?socket=/s"),
            ("dst://host/name", "dst://host/name"),
            ("memory:?size=1M", "memory:?size=1M"),
        ]:
            self.assertEqual(expected, absolute_uri(uri, "/base"))
