"""
What DST brings along: its nodes, algorithms and servers, found in the same way as anybody else's.
"""

from typing import TypeVar

from twisted.plugin import IPlugin
from zope.interface import alsoProvides

from dst.algorithms.linear import LinearProvider
from dst.algorithms.mirror import MirrorProvider
from dst.algorithms.stripe import StripeProvider
from dst.exports.providers import DSTExportProvider, NBDExportProvider
from dst.nodes.file import FileNodeProvider
from dst.nodes.memory import MemoryNodeProvider
from dst.nodes.nbd_provider import NBDNodeProvider, NBDSNodeProvider, NBDSUNIXNodeProvider, NBDUNIXNodeProvider
from dst.nodes.remote_provider import RemoteNodeProvider, RemoteUNIXNodeProvider

T = TypeVar("T")


def _plugin(provider: T) -> T:
    """The provider, with the mark by which Twisted finds it."""
    alsoProvides(provider, IPlugin)
    return provider


memory = _plugin(MemoryNodeProvider())
file = _plugin(FileNodeProvider())
remote = _plugin(RemoteNodeProvider())
remote_unix = _plugin(RemoteUNIXNodeProvider())
nbd = _plugin(NBDNodeProvider())
nbd_unix = _plugin(NBDUNIXNodeProvider())
nbds = _plugin(NBDSNodeProvider())
nbds_unix = _plugin(NBDSUNIXNodeProvider())

mirror = _plugin(MirrorProvider())
linear = _plugin(LinearProvider())
stripe = _plugin(StripeProvider())

dst_server = _plugin(DSTExportProvider())
nbd_server = _plugin(NBDExportProvider())
