"""Tests of L{dst.simulation.topologies}."""

from __future__ import annotations

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from dst.cluster.providers import Providers
from dst.cluster.rules import findings
from dst.cluster.topology import export, file, mirror, nbd, node, remote, slice_of, topology
from dst.errors import ConfigurationError
from dst.simulation.topologies import BUILT_IN, DRIVE_BYTES, adapted, built_in
from dst.simulation.world import Host, World


class BuiltInTests(SynchronousTestCase):
    """Clusters that come along."""

    def test_rules(self) -> None:
        """Every daemon of every one could be run in earnest."""
        providers = Providers.found()
        self.assertGreaterEqual(len(BUILT_IN), 9)
        for name in BUILT_IN:
            layout = built_in(name)
            self.assertEqual(["vol"], list(layout.storages))
            for daemon in layout.daemons.values():
                self.assertEqual([], [finding.sentence for finding in findings(daemon, providers)])

    def test_unknown(self) -> None:
        """One that there is not is refused, with those that there are."""
        self.assertIn("mirror-3", self.assertRaises(ConfigurationError, built_in, "mirror-9").message)


class AdaptedTests(SynchronousTestCase):
    """A person's own topologies, made ready."""

    def uris(self, layout: object, daemon: str) -> dict[str, str]:
        """The nodes of a daemon."""
        return {spec.name: spec.uri for spec in layout.daemons[daemon].nodes}

    def test_together(self) -> None:
        """Daemons whose files are given find each other, though all of them say 127.0.0.1."""
        a = topology(export(file("a.img", size="10G")), dst="tcp:7451:interface=127.0.0.1")
        b = topology(export(file("b.img", size="10G")), dst="tcp:7452:interface=127.0.0.1")
        owner = topology(
            export(mirror("vol", remote("dst://127.0.0.1:7451/a"), remote("dst://127.0.0.1:7452/b?keepalive_s=2"))),
            nbd="tcp:10809:interface=127.0.0.1",
            state_dir="state",
        )
        layout = adapted("mine", {"owner": owner, "a": a, "b": b})
        self.assertEqual(
            {"a": "dst://10.77.0.2:7451/a", "b": "dst://10.77.0.3:7452/b?keepalive_s=2"}, self.uris(layout, "owner")
        )
        self.assertEqual("tcp:7452:interface=10.77.0.3", layout.daemons["b"].listeners["dst"][0].endpoint)
        self.assertEqual({"vol": ("owner",)}, layout.storages)
        self.assertEqual("/state", layout.daemons["owner"].daemon.state_dir)
        self.assertEqual("64K", layout.daemons["owner"].storages[0].options["region_size"])

    def test_missing_daemon(self) -> None:
        """A daemon whose file is not given is simulated as one with a disk, and that is said."""
        owner = topology(mirror("vol", file("a.img", size="1G"), remote("dst://disks.example:7450/b")))
        layout = adapted("mine", {"owner": owner})
        self.assertEqual(["owner", "disks.example:7450"], list(layout.daemons))
        self.assertEqual("dst://10.77.0.2:7450/b", self.uris(layout, "owner")["b"])
        self.assertTrue(any("disks.example:7450" in sentence for sentence in layout.said))

    def test_unix_socket(self) -> None:
        """A socket in the file system leads to the daemon that listens there."""
        a = topology(export(file("a.img", size="1M")), dst="unix:/run/a.sock")
        owner = topology(mirror("vol", file("b.img", size="1M"), node("dst+unix:///run/a.sock?export=a", name="x")))
        layout = adapted("mine", {"owner": owner, "a": a})
        self.assertEqual("dst://10.77.0.2:7450/a", self.uris(layout, "owner")["x"])

    def test_sizes(self) -> None:
        """Disks are made small, alike for alike; what is cut into slices keeps room for them."""
        big = file("big.img", size="100G")
        owner = topology(mirror("vol", file("a.img", size="1T"), slice_of(big, "1M", "2M")))
        layout = adapted("mine", {"owner": evolve(owner, base_dir="/srv")})
        host = Host(World(1), "owner")
        self.assertEqual(DRIVE_BYTES, layout.size_of(host, "/srv/a.img", 1 << 40))
        self.assertEqual(3 << 20, layout.size_of(host, "/srv/big.img", 100 << 30))
        self.assertTrue(any("1 MiB" in sentence for sentence in layout.said))

    def test_foreign_server(self) -> None:
        """A foreign server is a disk, and that is said."""
        owner = topology(mirror("vol", file("a.img", size="1M"), nbd("nbd://10.0.0.9/disk")))
        layout = adapted("mine", {"owner": owner})
        self.assertTrue(any("another kind" in sentence for sentence in layout.said))

    def test_standby(self) -> None:
        """The same storage at two daemons is one storage that either may serve."""
        one, other = (topology(mirror("vol", remote("dst://a:7450/a")), state_dir=f"s{n}") for n in (1, 2))
        self.assertEqual({"vol": ("x", "y")}, dict(adapted("mine", {"x": one, "y": other}).storages))

    def test_nothing_to_rehearse(self) -> None:
        """Without a storage there is nothing to rehearse."""
        alone = {"a": topology(export(file("a.img", size="1M")))}
        self.assertIn("no storage", self.assertRaises(ConfigurationError, adapted, "mine", alone).message)
