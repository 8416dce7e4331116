"""
How many connections a port has.
"""

from __future__ import annotations

from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["Counted"]


@implementer(IProtocolFactory)
class Counted:
    """
    A factory for one port; whatever passes over its connections does not pass through here.

    @ivar factory: who serves them.
    @ivar connections: that are open.
    """

    def __init__(self, factory: IProtocolFactory) -> None:
        self.factory = factory
        self.connections = 0

    def doStart(self) -> None:
        """See L{IProtocolFactory.doStart}."""
        self.factory.doStart()

    def doStop(self) -> None:
        """See L{IProtocolFactory.doStop}."""
        self.factory.doStop()

    def buildProtocol(self, addr: IAddress) -> IProtocol | None:
        """See L{IProtocolFactory.buildProtocol}."""
        protocol = self.factory.buildProtocol(addr)
        if protocol is None:
            return None
        lost = protocol.connectionLost

        def connection_lost(reason: Failure) -> None:
            self.connections -= 1
            lost(reason)

        self.connections += 1
        protocol.connectionLost = connection_lost  # type: ignore[method-assign]
        return protocol
