"""
Who is at the other end of a connection, and what an export allows to whom.

Values, and one pure decision; certificates, sockets and files are elsewhere.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from attrs import frozen

__all__ = [
    "Access",
    "AccessRule",
    "Identity",
    "Network",
    "Role",
    "access_for",
    "access_rule_from_plain",
    "access_rule_to_plain",
    "includes",
]

IDENTITY_CHARACTERS_MAX = 256
"""The longest name that a rule may have; a certificate's common name has at most 64."""

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


def includes(role: Role, wanted: Role) -> bool:
    """Whether C{role} may do what C{wanted} may."""
    order = list(Role)
    return order.index(role) >= order.index(wanted)


_RULE_KEYS = ("access", "identity", "network")


def access_rule_from_plain(value: object) -> AccessRule:
    """
    A rule as it is written down: C{{"access": "write", "identity": "alpha", "network": "10.0.0.0/8"}}.

    @raise ValueError: it is none; the argument is what was found and what was expected.
    """
    example = 'expected one as { access = "write", identity = "alpha" }'
    if not isinstance(value, Mapping):
        raise ValueError(f"{value!r:.60} is no rule; {example}")
    for key in value:
        if key not in _RULE_KEYS:
            raise ValueError(f"a rule has no {key!r}; known are {', '.join(_RULE_KEYS)}")
    access, identity, network = (value.get(key) for key in _RULE_KEYS)
    if access not in ("read", "write"):
        said = "no access" if access is None else f"the access {access!r:.60}"
        raise ValueError(f'a rule has {said}; expected access = "read" or access = "write"')
    if identity is not None and not (isinstance(identity, str) and 0 < len(identity) <= IDENTITY_CHARACTERS_MAX):
        raise ValueError(f'the identity {identity!r:.60} is no name; expected that of a certificate, as "alpha"')
    parsed: Network | None = None
    if network is not None:
        try:
            parsed = ipaddress.ip_network(network if isinstance(network, str) else "")
        except ValueError as error:
            why = str(error) if isinstance(network, str) else "not a text"
            raise ValueError(
                f'the network {network!r:.60} is none ({why}); expected one as "10.0.0.0/8" or "fd00::/8"'
            ) from None
    return AccessRule(Access(access), identity, parsed)


def access_rule_to_plain(rule: AccessRule) -> dict[str, str]:
    """The inverse of L{access_rule_from_plain}."""
    plain = {"access": rule.access.value}
    if rule.identity is not None:
        plain["identity"] = rule.identity
    if rule.network is not None:
        plain["network"] = str(rule.network)
    return plain
