"""
Who is at the other end of a connection, and what an export allows to whom.

Values, and one pure decision; certificates, sockets and files are elsewhere.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterable
from typing import TypeAlias

from attrs import frozen

__all__ = ["Access", "AccessRule", "Identity", "Network", "Role", "access_for"]

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class Access(enum.Enum):
    """What one client may do with one export."""

    READ = "read"
    WRITE = "write"


class Role(enum.Enum):
    """
    What one person may do with one daemon; each includes those before it.

    C{VIEW}: look.  C{OPERATE}: what can be undone, or loses no data: suspend, resume, pause.
    C{ADMIN}: everything.
    """

    VIEW = "view"
    OPERATE = "operate"
    ADMIN = "admin"


@frozen
class Identity:
    """
    Who asks.

    @ivar name: what its certificate calls it; C{None} without one.
    @ivar address: IPv4 or IPv6 as text; C{None} on a UNIX socket.
    @ivar user_id: of the process at the other end of a UNIX socket; C{None} elsewhere.
    @ivar encrypted: whether the connection is TLS.
    """

    name: str | None = None
    address: str | None = None
    user_id: int | None = None
    encrypted: bool = False

    @property
    def local(self) -> bool:
        """Whether it is on this machine for certain."""
        if self.address is None:
            return self.user_id is not None
        return plain_address(self.address).is_loopback

    def __str__(self) -> str:
        where = self.address or (f"user {self.user_id}" if self.user_id is not None else "a local socket")
        return f"{self.name} at {where}" if self.name else where


@frozen
class AccessRule:
    """
    One line of an export's access list; all that it names has to be true.

    @ivar identity: the name in the client's certificate; C{None}: any, also none at all.
    @ivar network: where the client is; C{None}: anywhere.
    """

    access: Access
    identity: str | None = None
    network: Network | None = None

    def matches(self, who: Identity) -> bool:
        """Whether it is about C{who}."""
        if self.identity is not None and who.name != self.identity:
            return False
        if self.network is None:
            return True
        return who.address is not None and plain_address(who.address) in self.network


def plain_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address; one of IPv4 that came by an IPv6 socket (C{::ffff:10.0.0.1}) is that of IPv4."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped


def access_for(who: Identity, rules: Iterable[AccessRule] | None) -> Access | None:
    """
    What C{who} may do: the most that any rule about it allows.

    @param rules: an export's access list; an empty one means nobody. C{None}, no list at all, means this machine
        only.
    @return: C{None} if nothing.
    """
    if rules is None:
        return Access.WRITE if who.local else None
    allowed = {rule.access for rule in rules if rule.matches(who)}
    if Access.WRITE in allowed:
        return Access.WRITE
    return Access.READ if allowed else None
