"""
Where a daemon listens, how far that reaches, and whether it has to be TLS.

A listener on loopback or on a UNIX socket is for this machine.  Any other one lets the network in, and then only with
TLS, unless somebody has said C{open_to_the_network = true}: those are the plain words.

Values in, values out; whether there is a security directory is told by whoever has looked.
"""

from __future__ import annotations

import ipaddress
from typing import Final, TypeAlias

from attrs import frozen

from dst.cluster.endpoints import endpoint_words

__all__ = [
    "TLS_POLICIES",
    "Listeners",
    "ListenerSpec",
    "as_listeners",
    "host_reaches_out",
    "listener_from_plain",
    "reaches_out",
    "tls_policy",
    "wrong_with_exposure",
]

TLS_POLICIES: Final = ("off", "optional", "required")


@frozen
class ListenerSpec:
    """
    One place where clients connect.

    @ivar endpoint: Twisted's endpoint string.
    @ivar tls: one of L{TLS_POLICIES}; C{None}: what L{tls_policy} says.
    """

    endpoint: str
    tls: str | None = None

    def plain(self) -> object:
        """As it is written in a topology."""
        return self.endpoint if self.tls is None else {"endpoint": self.endpoint, "tls": self.tls}


Listeners: TypeAlias = dict[str, tuple[ListenerSpec, ...]]
"""Where clients connect, by protocol."""


def as_listeners(given: dict[str, tuple[str | ListenerSpec, ...]]) -> Listeners:
    """Endpoint strings are listeners that say nothing about TLS."""
    return {
        protocol: tuple(ListenerSpec(each) if isinstance(each, str) else each for each in several)
        for protocol, several in given.items()
    }


def listener_from_plain(value: object) -> ListenerSpec:
    """
    A listener as it is written: an endpoint string, or a table with C{endpoint} and C{tls}.

    @raise ValueError: it is none; the argument is what was expected.
    """
    example = 'expected an endpoint string, or { endpoint = "tcp:7450", tls = "required" }'
    if isinstance(value, ListenerSpec):
        return value
    if isinstance(value, str):
        return ListenerSpec(value)
    if not isinstance(value, dict):
        raise ValueError(example)
    for key in value:
        if key not in ("endpoint", "tls"):
            raise ValueError(f"a listener has no {key!r}; {example}")
    endpoint, tls = value.get("endpoint"), value.get("tls")
    if not isinstance(endpoint, str) or not endpoint:
        raise ValueError(f"a listener has no endpoint; {example}")
    if tls is not None and tls not in TLS_POLICIES:
        raise ValueError(f"tls is {tls!r:.40}; expected one of {', '.join(TLS_POLICIES)}")
    return ListenerSpec(endpoint, tls)


def reaches_out(endpoint: str) -> bool | None:
    """
    Whether somebody on another machine can connect there.

    @return: C{None} if the endpoint string does not say, as with a socket that is handed down.
    """
    kind, words = endpoint_words(endpoint)
    if kind == "unix":
        return False
    if kind in ("tcp", "tcp6"):
        return host_reaches_out(words.get("interface", ""))
    return None


def host_reaches_out(interface: str) -> bool:
    """Whether an address to listen at can be reached from elsewhere; an empty one is all of them."""
    name = interface.replace("\\:", ":").strip("[]")
    if name == "localhost":
        return False
    try:
        return not ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return True


def tls_policy(listener: ListenerSpec, secured: bool, *, outward: bool | None = None) -> str:
    """
    What is done: what the listener says, else C{"required"} if it reaches out and there is a security directory, else
    C{"off"}.

    @param secured: there is a security directory.
    @param outward: what is known better than from the endpoint string: the real address.
    """
    if listener.tls is not None:
        return listener.tls
    if outward is None:
        outward = reaches_out(listener.endpoint)
    return "required" if outward and secured else "off"


def wrong_with_exposure(
    listener: ListenerSpec, *, secured: bool, open_to_the_network: bool, outward: bool | None = None
) -> str:
    """
    Why nobody may listen there, or C{""}.

    @param outward: as in L{tls_policy}.
    """
    policy = tls_policy(listener, secured, outward=outward)
    if policy != "off" and not secured:
        return (
            f"{listener.endpoint!r} has tls = {policy!r}, and there is no certificate: `dst ca init` and "
            "`dst ca issue`, or `dst join`, make a security directory; name it as [daemon] security_dir"
        )
    if outward is None:
        outward = reaches_out(listener.endpoint)
    if not outward or policy == "required" or open_to_the_network:
        return ""
    how = "also lets clients in without TLS" if policy == "optional" else "has no TLS"
    return (
        f"{listener.endpoint!r} can be reached from other machines and {how}: anybody there could read and change "
        "the data; listen at interface=127.0.0.1, or make certificates (`dst ca init`, `dst join`) and require TLS, "
        "or say in plain words [daemon] open_to_the_network = true"
    )
