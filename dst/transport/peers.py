"""
Who is at the other end of a connection, as well as that can be known, and how many of them there are.

An address comes from the kernel, a user from the kernel too (C{SO_PEERCRED} of a UNIX socket), a name from the
certificate that TLS has checked.  Nothing that the client itself says counts.
"""

from __future__ import annotations

import socket
import struct
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, Final

from attrs import define, field, frozen
from twisted.internet.interfaces import IAddress, ISSLTransport, ITransport

from dst.identity import Identity, Role, plain_address
from dst.security.certificates import BadCertificate, holder_at

__all__ = ["PLACES_MAX", "Crowd", "Recently", "identity_at", "role_at", "user_at"]

_CREDENTIALS: Final = struct.Struct("3i")
"""Process, user, group."""

_WRAPPINGS_MAX: Final = 4
"""TLS in TLS is nobody's; a ring of transports would be our own mistake."""


def identity_at(transport: ITransport | None) -> Identity:
    """
    Who is there.  With TLS ask when the handshake is over: before it nobody has a name.

    A certificate that does not say whose it is gives no name, so no rule about a name is about its holder.
    """
    peer = None if transport is None else transport.getPeer()
    host = getattr(peer, "host", None)
    try:
        holder = holder_at(transport)
    except BadCertificate:
        holder = None
    return Identity(
        name=None if holder is None else holder.name,
        address=_address(host),
        user_id=None if host is not None else user_at(transport),
        encrypted=ISSLTransport.providedBy(transport),
    )


def role_at(transport: ITransport | None) -> Role | None:
    """The role in the certificate of who is there; C{None} if there is none."""
    try:
        holder = holder_at(transport)
    except BadCertificate:
        return None
    return None if holder is None else holder.role


def user_at(transport: ITransport | None) -> int | None:
    """The user of the process at the other end of a UNIX socket, when it connected; C{None} elsewhere."""
    inner: Any = transport
    for _ in range(_WRAPPINGS_MAX):
        found = getattr(inner, "socket", None)
        if isinstance(found, socket.socket):
            if found.family != socket.AF_UNIX:
                return None
            try:
                said = found.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            except OSError:
                return None
            user: int = _CREDENTIALS.unpack(said)[1]
            return user if user >= 0 else None
        inner = getattr(inner, "transport", None)
        if inner is None:
            return None
    return None


def _address(host: object) -> str | None:
    if not isinstance(host, str):
        return None
    try:
        return str(plain_address(host))
    except ValueError:
        return None


@frozen
class Crowd:
    """
    How many connections there are from each address.

    Whoever is on this machine is not counted: everything that a host does comes from one address then.

    @ivar each_max: connections of one address.
    """

    each_max: int
    _counts: Counter[str] = field(factory=Counter)

    def enter(self, peer: IAddress | None) -> bool:
        """
        Somebody connects.

        @return: whether there is room; who is let in has to L{leave}.
        """
        address = self._counted(peer)
        if address is None:
            return True
        if self._counts[address] >= self.each_max:
            return False
        self._counts[address] += 1
        return True

    def leave(self, peer: IAddress | None) -> None:
        """Who was let in is gone."""
        address = self._counted(peer)
        if address is not None:
            self._counts[address] -= 1
            if not self._counts[address]:
                del self._counts[address]

    def _counted(self, peer: IAddress | None) -> str | None:
        address = _address(getattr(peer, "host", None))
        return None if address is None or plain_address(address).is_loopback else address


PLACES_MAX: Final = 1024
"""Of whom it is remembered what they did lately; who has been quiet longest is forgotten first."""


@define
class Recently:
    """
    How often somebody did something lately, so that it can be refused, or need not be logged again.

    @ivar clock_s: seconds, of any beginning.
    @ivar window_s: how long something is remembered.
    @ivar count_max: more than that is not told apart.
    """

    clock_s: Callable[[], float]
    window_s: float
    count_max: int
    _times: OrderedDict[str, list[float]] = field(factory=OrderedDict)

    def note(self, who: str) -> int:
        """Once more; how often by now."""
        now = self.clock_s()
        times = [each for each in self._times.pop(who, ()) if each > now - self.window_s]
        times.append(now)
        self._times[who] = times[-self.count_max :]
        while len(self._times) > PLACES_MAX:
            self._times.popitem(last=False)
        return len(self._times[who])

    def wait_s(self, who: str) -> float:
        """Until the oldest of them is forgotten; not less than a second."""
        times = self._times.get(who)
        return max(1.0, times[0] + self.window_s - self.clock_s()) if times else 1.0
