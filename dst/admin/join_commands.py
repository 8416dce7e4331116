"""
C{dst ca invite} on the machine with the authority, and C{dst join} on the new one.
"""

from __future__ import annotations

import json
import os
import platform
import re
import socket
import sys
from typing import TYPE_CHECKING, Any, Final, cast

import click

from dst.admin.ca_commands import ca
from dst.admin.ca_tools import (
    AS,
    DAYS,
    DIR,
    ROLE,
    authority_in,
    begin,
    certify_own,
    done,
    ends,
    facts_of,
    host_name,
    told_of,
)
from dst.admin.schema import API_VERSION
from dst.admin.tools import Tools, fail, json_option, json_wanted, told
from dst.errors import InvalidRequest
from dst.identity import Role

if TYPE_CHECKING:
    from cryptography import x509
    from twisted.internet.interfaces import IStreamServerEndpoint

    from dst.security.authority import Authority
    from dst.security.invitation import Grant
    from dst.security.making import Wanted

__all__ = ["PORT", "join_command", "listening_place"]

PORT: Final = 7451
"""Where an invitation waits unless told otherwise, next to the port of the daemons."""


@ca.command("invite")
@click.argument("name")
@click.option(
    "--listen", metavar="ADDRESS:PORT", help=f"Where to wait; this machine's address and {PORT} if not given."
)
@click.option("--minutes", type=float, default=10, show_default=True, help="How long to wait.")
@ROLE
@click.option("--client", is_flag=True, help="NAME only connects, and never serves.")
@click.option("--again", is_flag=True, help="Also if NAME has a good certificate, or shares an address.")
@AS
@click.option(
    "--address",
    "addresses",
    multiple=True,
    metavar="ADDRESS",
    help="An address or host name at which NAME is reached, if it is not the one from which it joins.",
)
@DAYS
@DIR
@json_option("a line with the token, and one with who has joined")
@click.pass_obj
def ca_invite(
    tools: Tools,
    name: str,
    listen: str | None,
    minutes: float,
    role: str | None,
    client: bool,
    again: bool,
    own: str | None,
    addresses: tuple[str, ...],
    days: float,
    directory: str,
    as_json: bool,
) -> None:
    """
    Let the machine NAME join, and wait for it: prints the one command to run there.

    Where there is no authority yet, one is made.  The token is good for one certificate and some minutes; whoever
    has it is taken for NAME, so give it to nobody else.  NAME's certificate is for the address it joins from, or for
    every --address.

    \b
    Examples:
      dst ca invite beta
      dst ca invite beta --listen 192.0.2.1:7451 --minutes 30
      dst ca invite eve --role operate
    """
    from dst.security.certificates import Kind
    from dst.security.making import Wanted

    if not 0 < minutes <= 24 * 60:
        fail(f"{minutes:g} minutes is no time to wait", "say --minutes with 1 to 1440", code="invalid", exit_code=2)
    kind = Kind.PERSON if client or role is not None else Kind.DAEMON
    host, port = told_of(lambda: listening_place(listen))

    wanted = Wanted(name, kind, None if role is None else Role(role), addresses, days)

    def sure_of_it() -> Authority:
        wanted.check()
        authority = authority_in(directory, tools)
        if not authority.exists:
            begin(authority, own or host_name(), _addresses_of_this_machine(host))
            click.echo(f"made the authority {authority.directory}; keep a copy of it", err=True)
        elif not os.path.exists(os.path.join(authority.directory, "this.crt")):
            certify_own(authority, Wanted(own or host_name(), addresses=_addresses_of_this_machine(host)))
        authority.check(wanted, again=again)
        return authority

    authority = told_of(sure_of_it)

    address = done(tools, lambda reactor: _invite(reactor, authority, wanted, host, port, minutes, again))
    if json_wanted():
        click.echo(json.dumps({"version": API_VERSION, "joined": name, "address": address}))
    else:
        click.echo(f"{name} has joined from {address}")


async def _invite(
    reactor: Any, authority: Authority, wanted: Wanted, host: str, port: int, minutes: float, again: bool
) -> str:
    """Wait for a machine. @return: where it came from."""
    from attrs import evolve
    from cryptography.hazmat.primitives.serialization import Encoding
    from twisted.internet.defer import maybeDeferred
    from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint
    from twisted.internet.error import CannotListenError

    from dst.errors import AlreadyInUse
    from dst.security.authority import fingerprint
    from dst.security.certificates import Kind
    from dst.security.directory import load
    from dst.security.invitation import SECRET_BYTES, Grant, Token
    from dst.security.inviting import Inviting
    from dst.surroundings import surroundings_of

    def sign(key: Any, address: str) -> Grant:
        asked = wanted
        here = address.partition("%")[0]
        if wanted.kind is Kind.DAEMON and not wanted.addresses:
            other = authority.other_at(here, wanted.name)
            if other is None:
                asked = evolve(wanted, addresses=(here,))
            else:
                click.echo(f"{here} is where {other} is reached already; say peer={wanted.name} in nodes", err=True)
        certificate = authority.sign(asked, key, again=again)
        return Grant(certificate.public_bytes(Encoding.DER), authority.trusted_pem(), authority.revocations_pem())

    secret = surroundings_of(reactor).entropy(SECRET_BYTES)
    inviting = Inviting(
        reactor,
        load(authority.directory),
        secret,
        sign,
        minutes=minutes,
        told=lambda sentence: click.echo(sentence, err=True),
    )
    kind = TCP6ServerEndpoint if ":" in host else TCP4ServerEndpoint
    endpoint: IStreamServerEndpoint = kind(reactor, port, interface=host)
    try:
        listening = await endpoint.listen(inviting.factory)
    except CannotListenError as error:
        inviting.joined.addErrback(lambda _: None)
        inviting.joined.cancel()
        reason = getattr(error.socketError, "strerror", None) or str(error.socketError)
        raise AlreadyInUse(
            f"cannot wait at {host} port {port}: {reason}; choose another place with --listen"
        ) from None
    try:
        real = cast(Any, listening.getHost()).port
        reached = host if host not in ("0.0.0.0", "::", "") else _own_address()
        token = Token(reached, real, fingerprint(authority.certificate), secret).encode()
        if json_wanted():
            click.echo(json.dumps({"version": API_VERSION, "token": token, "minutes": minutes, "port": real}))
        else:
            click.echo(f"On {wanted.name}, within {minutes:g} minutes, run:\n\n    dst join {token}\n")
        return await inviting.joined
    finally:
        await maybeDeferred(listening.stopListening)


@click.command("join")
@click.argument("token", metavar="TOKEN")
@click.option("--again", is_flag=True, help="Also if this machine has a certificate: it is replaced.")
@DIR
@json_option("who this machine is now")
@click.pass_obj
def join_command(tools: Tools, token: str, again: bool, directory: str, as_json: bool) -> None:
    """
    Become a member of the cluster that has given out TOKEN.

    The key is made here and never leaves this machine.  A token on the command line can be seen by other users of
    this machine while the command runs; "-" reads it from standard input.

    \b
    Examples:
      dst join dst1-...
      dst join - --dir /var/lib/dst/security
    """
    from dst.security.files import directory_made
    from dst.security.identity_files import write_identity
    from dst.security.invitation import Token
    from dst.security.making import make_key

    word = sys.stdin.readline(4096).strip() if token == "-" else token
    path = os.path.abspath(directory)

    def begin() -> Token:
        read = Token.decode(word)
        if os.path.exists(os.path.join(path, "authority", "ca.key")):
            raise InvalidRequest(f"{path} has an authority of its own; name another directory with --dir")
        if not again and os.path.exists(os.path.join(path, "this.key")):
            raise InvalidRequest(f"{path} has a key already; name another directory with --dir, or say --again")
        directory_made(path)
        return read

    accepted = told_of(begin)
    key = make_key()

    async def work(reactor: Any) -> tuple[x509.Certificate, Grant]:
        from twisted.internet.endpoints import HostnameEndpoint

        from dst.security.joining import join

        endpoint = HostnameEndpoint(reactor, accepted.host, accepted.port)
        return await join(reactor, endpoint, accepted, key)

    certificate, grant = done(tools, work)
    told_of(lambda: write_identity(path, key, certificate, grant.trusted, grant.revocations))
    facts = facts_of(certificate)
    told(
        f"this machine is {facts['name']}, until {ends(certificate)}; its certificate is in {path}, which a daemon "
        f'uses when its topology says [daemon] security_dir = "{path}" (STATE_DIR/security it finds by itself)',
        directory=path,
        **facts,
    )


def listening_place(listen: str | None) -> tuple[str, int]:
    """
    An address and a port.

    @raise InvalidRequest: it is none.
    """
    if listen is None:
        return _own_address(), PORT
    host, colon, port = listen.rpartition(":")
    if not colon:
        host, port = listen, str(PORT)
    host = host.strip("[]")
    if not (port.isascii() and port.isdigit() and int(port) < 65536) or not _is_address(host):
        raise InvalidRequest(
            f"{listen!r} is no place to wait at; expected an address and a port, as 192.0.2.1:{PORT}"
        )
    return host, int(port)


def _is_address(host: str) -> bool:
    import ipaddress

    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _own_address() -> str:
    """The address that this machine has for others; nothing is sent to find it."""
    for family, target in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((target, 9))
                return str(probe.getsockname()[0])
            except OSError:
                continue
    return "127.0.0.1"


def _addresses_of_this_machine(host: str) -> tuple[str, ...]:
    found = [host if host not in ("0.0.0.0", "::", "") else _own_address()]
    name = platform.node().lower()
    if re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", name):
        found.append(name)
    return tuple(found)
