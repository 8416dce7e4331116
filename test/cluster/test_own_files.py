"""Tests of L{dst.cluster.own_files}: who may configure a daemon does not get its keys by that."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dst.cluster.document import read_document
from dst.cluster.own_files import OwnFiles
from dst.cluster.topology import Topology
from dst.errors import InvalidRequest
from test.cluster.test_changing import ChangingCase
from test.security.machines import Machines


class OwnFilesTests(SynchronousTestCase):
    """Which files are the daemon's own."""

    def setUp(self) -> None:
        self.base = Path(self.mktemp()).resolve()
        for name in ("state/access", "state/security", "disks"):
            (self.base / name).mkdir(parents=True)
        (self.base / "dst.toml").write_text("[daemon]\n")
        os.symlink(self.base / "state", self.base / "disks" / "link")
        self.own = OwnFiles.of(self.topology(), str(self.base / "dst.toml"))

    def topology(self, **uris: str) -> Topology:
        """One with these nodes."""
        nodes = {name: {"uri": uri} for name, uri in uris.items()}
        return read_document({"daemon": {"state_dir": "state"}, "nodes": nodes}, str(self.base)).topology

    def test_own(self) -> None:
        """Keys, tokens and configurations, however the way to them is written."""
        for uri in (
            "file:state/security/this.key?read_only=true",
            "file:state/access/tokens.json",
            "file:state/new.img?size=1M",
            "file:dst.toml",
            "file:other.toml?size=1M",
            "file:disks/../dst.toml",
            "file:disks%2f..%2Fdst.toml",
            "file:disks/link/security/this.key",
            f"file:{self.base}/dst.toml",
            f"file://localhost{self.base}/dst.toml",
            f"file:///{self.base}/dst.toml",
            f"file:/proc/self/root{self.base}/dst.toml",
        ):
            found = list(self.own.wrong_with(self.topology(a=uri)))
            self.assertEqual([("nodes", "a", "uri")], [each.place for each in found], uri)

    def test_others(self) -> None:
        """Everything else is a medium, also beside them."""
        fine = self.topology(
            a="file:disks/a.img?size=1M",
            b="file:b.img?size=1M",
            c="file:state-of-the-art.img",
            d="file:disks/x.toml",
            e="memory:?size=1M",
            f="dst://192.0.2.1/state/security/this.key",
        )
        self.assertEqual([], list(self.own.wrong_with(fine)))
        self.assertFalse(OwnFiles.of(read_document({}).topology, None).has("/etc/passwd"))


class ChangingTests(ChangingCase):
    """What is asked of a daemon that runs."""

    def setUp(self) -> None:
        """It has certificates."""
        machines = Machines(self.mktemp())
        machines.add("alpha")
        self.keys = machines.path("alpha")
        self.document = {**self.document, "daemon": {"security_dir": self.keys}}
        super().setUp()

    def test_refused(self) -> None:
        """Neither a new node nor other media for a member may be what belongs to the daemon; nothing is changed."""
        before = self.wanted()
        key = f"file:{self.keys}/this.key"
        elsewhere = {**before, "daemon": {"name": "alpha"}}
        for document in (before, elsewhere):  # what runs counts, not what would be at the next start
            wanted = {**document, "nodes": {**document["nodes"], "key": {"uri": key}}}
            error = self.failureResultOf(self.cluster.admin.change(wanted), InvalidRequest).value
            self.assertIn("belongs to the daemon itself", str(error))
        error = self.failureResultOf(self.cluster.admin.replace("vol", "a", key), InvalidRequest).value
        self.assertIn("belongs to the daemon itself", str(error))
        self.assertEqual(before, self.wanted())
