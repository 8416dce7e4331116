"""
The conformance suite for storages that are running already, in daemons of their own.

Not found by C{trial} on its own: C{test_trees} starts the daemons, says in the environment where their exports are,
and runs this in a process of its own.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet import reactor

from dst.nodes.nbd import NBDNode
from dst.nodes.nbd_provider import NBDNodeProvider
from dst.nodes.remote import RemoteNode
from dst.nodes.remote_provider import RemoteNodeProvider
from dst.testing import Specimen, node_suite

__all__ = ["NBD_URI", "REMOTE_URI"]

REMOTE_URI = "DST_TEST_REMOTE_URI"
NBD_URI = "DST_TEST_NBD_URI"


def over_wire(case: Any) -> Specimen:
    """The export, over this project's own protocol."""

    def build() -> Any:
        return RemoteNodeProvider().node_from_uri(reactor, "tree", os.environ[REMOTE_URI], {})

    return Specimen(build(), reopen=build)


def over_nbd(case: Any) -> Specimen:
    """The same over NBD, which cannot tell an incarnation."""

    def build() -> Any:
        return NBDNodeProvider().node_from_uri(reactor, "tree", os.environ[NBD_URI], {})

    return Specimen(build(), reopen=build, remembers=False)


class TreeOverWireTests(node_suite(RemoteNode, over_wire)):
    """The tree keeps the promises of a node."""

    timeout = 60


class TreeOverNBDTests(node_suite(NBDNode, over_nbd)):
    """So it does for clients of NBD."""

    timeout = 60
