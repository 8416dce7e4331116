"""
The reactor of a simulated process.

It is what a daemon is given instead of Twisted's own: time, TCP, names and threads, all of one L{World}, and
the surroundings (chance, calendar, files) of its host.  Endpoints of Twisted work on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHostnameResolver,
    IHostResolution,
    IReactorFromThreads,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
    IResolutionReceiver,
)
from twisted.internet.protocol import ClientFactory, ServerFactory
from zope.interface import implementer

from dst.simulation.network import Connector, Network, Port
from dst.simulation.world import CALENDAR_START_S, Process
from dst.surroundings import ISurroundings

if TYPE_CHECKING:
    from dst.simulation.files import HostFiles

__all__ = ["SimulatedReactor"]

_THREAD_S_MAX = 0.0005
"""What work in a thread takes at most, when it does not wait for a disk."""


class _Threads:
    """A thread pool in which everything takes a moment and nothing runs side by side."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def callInThread(self, function: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        """As in Twisted."""
        self.callInThreadWithCallback(None, function, *args, **kwargs)

    def callInThreadWithCallback(
        self, onResult: Callable[[bool, Any], None] | None, function: Callable[..., object], *args: Any, **kwargs: Any
    ) -> None:
        """As in Twisted."""
        from twisted.python.failure import Failure

        def run() -> None:
            good, result = True, None
            try:
                result = function(*args, **kwargs)
            except Exception:
                good, result = False, Failure()
            if onResult is not None:
                onResult(good, result)

        self._process.later(self._process.random.random() * _THREAD_S_MAX, run)


@implementer(IHostResolution)
class _Resolution:
    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """It is over in a turn."""


@implementer(IHostnameResolver)
class _Names:
    """Every name has an address; whether anybody is there is another question."""

    def __init__(self, process: Process, network: Network) -> None:
        self._process = process
        self._network = network

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """See L{IHostnameResolver.resolveHostName}."""
        resolution = _Resolution(hostName)

        def tell() -> None:
            resolutionReceiver.resolutionBegan(resolution)
            resolutionReceiver.addressResolved(IPv4Address("TCP", self._network.address_of(hostName), portNumber))
            resolutionReceiver.resolutionComplete()

        self._process.later(0.001, tell)
        return resolution


@implementer(IReactorTime, IReactorTCP, IReactorFromThreads, IReactorPluggableNameResolver, ISurroundings)
class SimulatedReactor:
    """
    @ivar process: whose it is.
    """

    running = True

    def __init__(self, process: Process, network: Network, files: Callable[[str], HostFiles]) -> None:
        self.process = process
        self.nameResolver: IHostnameResolver = _Names(process, network)
        self.state_files = files
        self._world = process.world
        self._network = network
        self._threads = _Threads(process)

    # -- IReactorTime

    def seconds(self) -> float:
        """See L{IReactorTime.seconds}."""
        return self._world.now + self.process.clock_offset_s

    def callLater(self, delay: float, callable: Callable[..., object], *args: Any, **kw: Any) -> IDelayedCall:
        """See L{IReactorTime.callLater}."""
        assert delay >= 0, delay
        return self._world.call(self._world.now + delay, self.process, callable, args, kw)

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        """See L{IReactorTime.getDelayedCalls}."""
        raise NotImplementedError("ask the world")

    # -- IReactorFromThreads

    def callFromThread(self, callable: Callable[..., object], *args: Any, **kw: Any) -> None:
        """See L{IReactorFromThreads.callFromThread}."""
        self._world.call(self._world.now, self.process, callable, args, kw, timer=False)

    def callInThread(self, callable: Callable[..., object], *args: Any, **kw: Any) -> None:
        """As in Twisted."""
        self._threads.callInThread(callable, *args, **kw)

    def getThreadPool(self) -> _Threads:
        """As in Twisted."""
        return self._threads

    # -- IReactorTCP

    def listenTCP(self, port: int, factory: ServerFactory, backlog: int = 50, interface: str = "") -> Port:
        """See L{IReactorTCP.listenTCP}."""
        return self._network.listen(self.process, port, factory, interface)

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: ClientFactory[Any],
        timeout: float = 30,
        bindAddress: tuple[str, int] | None = None,
    ) -> Connector:
        """See L{IReactorTCP.connectTCP}."""
        return self._network.connect(self.process, host, port, factory, timeout)

    # -- IReactorPluggableNameResolver

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        """See L{IReactorPluggableNameResolver.installNameResolver}."""
        before, self.nameResolver = self.nameResolver, resolver
        return before

    # -- ISurroundings

    def entropy(self, count: int) -> bytes:
        """See L{ISurroundings.entropy}."""
        return self.process.random.randbytes(count)

    def random(self) -> Random:
        """See L{ISurroundings.random}."""
        return Random(self.process.random.getrandbits(64))

    def wall_clock_s(self) -> float:
        """See L{ISurroundings.wall_clock_s}."""
        return CALENDAR_START_S + self._world.calendar_s + self.process.host.wall_clock_offset_s

    def boot_clock_s(self) -> float:
        """See L{ISurroundings.boot_clock_s}."""
        return self._world.now + self.process.clock_offset_s + self.process.slept_s
