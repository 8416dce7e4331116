"""
What a topology's C{[listeners]} may name: the servers, as plugins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import implementer

from dst.exports.dst_server import DSTServerFactory
from dst.exports.nbd_server import NBDServerFactory
from dst.interfaces import IExporter, IExportProvider, IExports

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["DSTExportProvider", "NBDExportProvider"]


@implementer(IExportProvider)
class DSTExportProvider:
    """C{dst}: for other daemons."""

    protocol = "dst"

    def exporter(self, reactor: IReactorTime, exports: IExports) -> IExporter:
        """See L{IExportProvider.exporter}."""
        return DSTServerFactory(reactor, exports)


@implementer(IExportProvider)
class NBDExportProvider:
    """C{nbd}: for NBD clients."""

    protocol = "nbd"

    def exporter(self, reactor: IReactorTime, exports: IExports) -> IExporter:
        """See L{IExportProvider.exporter}."""
        return NBDServerFactory(reactor, exports)
