"""
C{dst ca} and C{dst join}: who belongs to a cluster.

They work on files in a security directory and ask no daemon: the daemons that run notice new files by themselves.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar, cast

import click

from dst.admin.schema import API_VERSION, error_row
from dst.admin.tools import (
    EXIT_ERROR,
    EXIT_NOT_ALLOWED,
    YES,
    Tools,
    fail,
    json_option,
    json_wanted,
    show_json,
    sure,
    told,
)
from dst.errors import Denied, DSTError, InvalidRequest, NotFound
from dst.identity import Role

if TYPE_CHECKING:
    from cryptography import x509
    from twisted.internet.interfaces import IReactorTime, IStreamServerEndpoint

    from dst.interfaces import IClusterAdmin
    from dst.security.authority import Authority, Issued
    from dst.security.invitation import Grant
    from dst.security.making import Wanted

__all__ = ["PORT", "ca", "join_command"]

PORT: Final = 7451
"""Where an invitation waits unless told otherwise, next to the port of the daemons."""

T = TypeVar("T")

_DAY_S: Final = 86400.0

_DIR = click.option(
    "--dir",
    "-d",
    "directory",
    envvar="DST_SECURITY_DIR",
    default="security",
    show_default=True,
    show_envvar=True,
    metavar="DIR",
    help="The security directory.",
)
_ADDRESS = click.option(
    "--address",
    "addresses",
    multiple=True,
    metavar="ADDRESS",
    help="An address or host name at which the daemon is reached; can be given several times.",
)
_DAYS = click.option("--days", type=float, default=365, show_default=True, help="How long the certificate is good.")
_ROLE = click.option(
    "--role", type=click.Choice([role.value for role in Role]), help="What the holder may do with daemons over REST."
)
_AS = click.option(
    "--as", "own", metavar="NAME", default=None, help="What this machine is called; its host name if not given."
)


@click.group()
def ca() -> None:
    """
    Say who belongs to the cluster: make, list, renew and revoke certificates.

    The authority is a directory on one machine.  No daemon needs it to run; keep a copy of it.

    \b
    Examples:
      dst ca invite beta             let the machine beta join, with one command there
      dst ca issue eve --role operate
      dst ca list
      dst ca revoke beta
    """


def _told(work: Callable[[], T]) -> T:
    """The result of C{work}; an error ends the command with its sentence."""
    try:
        return work()
    except DSTError as error:
        _fail(error)


def _fail(error: DSTError) -> NoReturn:
    """The sentences of what is refused here say what to do by themselves."""
    exit_code = EXIT_NOT_ALLOWED if isinstance(error, Denied) else EXIT_ERROR
    fail(error.message, "", code=error_row(error).code, exit_code=exit_code)


def _done(tools: Tools, work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
    """The result of C{work}, which is given the reactor; an error ends the command with its sentence."""
    refused: list[DSTError] = []

    async def attempt(admin: IClusterAdmin, reactor: IReactorTime) -> T | None:
        try:
            return await work(reactor)
        except DSTError as error:
            refused.append(error)
            return None

    result = tools.ask(attempt)
    if refused:
        _fail(refused[0])
    return cast(T, result)


def _day(moment_s: float) -> str:
    return datetime.datetime.fromtimestamp(moment_s, datetime.UTC).strftime("%Y-%m-%d")


def _authority(directory: str, tools: Tools) -> Authority:
    from dst.security.authority import Authority

    return Authority(directory, tools.now)


@ca.command("init")
@click.argument("directory", required=False, metavar="[DIR]")
@_AS
@_ADDRESS
@json_option("what was made")
@click.pass_obj
def ca_init(tools: Tools, directory: str | None, own: str | None, addresses: tuple[str, ...], as_json: bool) -> None:
    """
    Make an authority, and this machine's own certificate, in DIR.

    \b
    Examples:
      dst ca init
      dst ca init /var/lib/dst/security --as alpha --address 192.0.2.1
    """
    path = directory or os.environ.get("DST_SECURITY_DIR") or "security"
    authority = _authority(path, tools)
    name = own or _host_name()
    certificate = _told(lambda: _begin(authority, name, addresses))
    told(
        f"{authority.directory} has a new authority and the certificate of {name}; keep a copy of "
        f"{authority.directory}/authority where this machine cannot lose it",
        directory=authority.directory,
        name=name,
        fingerprint=_fingerprint(certificate),
    )


def _begin(authority: Authority, name: str, addresses: tuple[str, ...]) -> x509.Certificate:
    """A new authority, with the certificate of the machine it is on."""
    from dst.security.making import Wanted

    wanted = Wanted(name, addresses=addresses)
    wanted.check()
    certificate = authority.create(name)
    _certify_own(authority, wanted)
    return certificate


def _certify_own(authority: Authority, wanted: Wanted) -> None:
    from dst.security.authority import write_identity
    from dst.security.making import make_key

    key = make_key()
    made = authority.sign(wanted, key.public_key())
    write_identity(authority.directory, key, made, authority.trusted_pem(), authority.revocations_pem())


@ca.command("issue")
@click.argument("name")
@_ROLE
@click.option("--daemon", "kind", flag_value="daemon", help="For a daemon: it serves and connects.")
@click.option("--client", "kind", flag_value="person", help="For a person or program: it only connects.")
@_ADDRESS
@_DAYS
@click.option("--again", is_flag=True, help="Also if NAME has a certificate that is good.")
@click.option("--out", metavar="DIR", help="Where its security directory is made; ./NAME if not given.")
@_DIR
@json_option("what was made")
@click.pass_obj
def ca_issue(
    tools: Tools,
    name: str,
    role: str | None,
    kind: str | None,
    addresses: tuple[str, ...],
    days: float,
    again: bool,
    out: str | None,
    directory: str,
    as_json: bool,
) -> None:
    """
    Make a key and a certificate for NAME, to be carried there.

    With --role it is a person's unless --daemon is said; else a daemon's unless --client is said.  Where the other
    machine can connect to this one, `dst ca invite` is safer: the key never leaves the machine that made it.

    \b
    Examples:
      dst ca issue beta --address 192.0.2.2
      dst ca issue eve --role operate --days 90
      dst ca issue backup --client
    """
    from dst.security.authority import write_identity
    from dst.security.certificates import Kind
    from dst.security.making import Wanted, make_key

    chosen = Kind(kind) if kind is not None else Kind.DAEMON if role is None else Kind.PERSON
    target = os.path.abspath(out or name)

    def work() -> x509.Certificate:
        authority = _authority(directory, tools)
        wanted = Wanted(name, chosen, None if role is None else Role(role), addresses, days)
        wanted.check()
        if os.path.exists(os.path.join(target, "this.key")):
            raise InvalidRequest(f"{target} has a key already; name another directory with --out")
        key = make_key()
        certificate = authority.sign(wanted, key.public_key(), again=again)
        write_identity(target, key, certificate, authority.trusted_pem(), authority.revocations_pem())
        return certificate

    certificate = _told(work)
    told(
        f"{target} is the security directory of the {chosen.value} {name}, until {_ends(certificate)}; carry it "
        "there by a way that nobody else can read, and delete it here",
        directory=target,
        **_facts(certificate),
    )


@ca.command("list")
@click.option("--all", "everything", is_flag=True, help="Also what has ended, was replaced, or is revoked.")
@_DIR
@json_option("a list of certificates")
@click.pass_obj
def ca_list(tools: Tools, everything: bool, directory: str, as_json: bool) -> None:
    """
    List the certificates that this authority has made.

    \b
    Example:
      dst ca list --all
    """
    issued = _told(lambda: _authority(directory, tools).issued())
    now = tools.now()
    rows = [each for each in issued if everything or each.good(now)]
    if json_wanted():
        show_json({"version": API_VERSION, "certificates": [_row(each, now) for each in rows]})
        return
    for each in rows:
        role = f", {each.role.value}" if each.role is not None else ""
        places = f"  {', '.join(each.addresses)}" if each.addresses else ""
        kind = each.kind.value + role
        click.echo(f"{each.name:20} {kind:16} {_state(each, now):24} {each.serial}{places}")
    if not rows:
        click.echo("there is none that is good" if issued else "none was made yet")


def _state(each: Issued, now: float) -> str:
    if each.revoked is not None:
        return f"revoked {_day(each.revoked)}"
    if each.ends <= now:
        return f"ended {_day(each.ends)}"
    return f"until {_day(each.ends)} ({(each.ends - now) / _DAY_S:.0f} d)"


def _row(each: Issued, now: float) -> dict[str, object]:
    state = "revoked" if each.revoked is not None else "ended" if each.ends <= now else "good"
    return {
        "name": each.name,
        "kind": each.kind.value,
        "role": None if each.role is None else each.role.value,
        "serial": each.serial,
        "addresses": list(each.addresses),
        "state": state,
        "began": each.began,
        "ends": each.ends,
        "revoked": each.revoked,
    }


@ca.command("show")
@_DIR
@json_option("the authority and this machine's certificate")
@click.pass_obj
def ca_show(tools: Tools, directory: str, as_json: bool) -> None:
    """
    Show whom this machine trusts, and who it is.

    \b
    Example:
      dst ca show --dir /var/lib/dst/security
    """
    from dst.security.certificates import addresses_of
    from dst.security.directory import load

    credentials = _told(lambda: load(directory))
    here = _told(lambda: _authority(directory, tools)).exists
    left = (credentials.holder.ends - tools.now()) / _DAY_S
    if json_wanted():
        show_json(
            {
                "version": API_VERSION,
                "directory": os.path.abspath(directory),
                "authority_here": here,
                "trusted": [
                    {
                        "subject": each.subject.rfc4514_string(),
                        "fingerprint": _fingerprint(each),
                        "ends": each.not_valid_after_utc.timestamp(),
                    }
                    for each in credentials.trusted
                ],
                "revoked": len(credentials.revoked),
                "this": {**_facts(credentials.certificate), "days_left": round(left, 2)},
            }
        )
        return
    click.echo(f"this is     {credentials.holder.name}, serial {credentials.holder.serial}")
    click.echo(f"until       {_ends(credentials.certificate)} ({left:.0f} days)")
    click.echo(f"reached at  {', '.join(addresses_of(credentials.certificate)) or 'nowhere'}")
    for number, each in enumerate(credentials.trusted):
        click.echo(f"{'trusts' if not number else 'and':11} {each.subject.rfc4514_string()}, until {_ends(each)}")
        click.echo(f"{'':11} SHA-256 {_fingerprint(each)}")
    click.echo(f"revoked     {len(credentials.revoked)}")
    click.echo(f"authority   {'is kept here' if here else 'is on another machine'}")


@ca.command("revoke")
@click.argument("which", metavar="NAME|SERIAL")
@YES
@_DIR
@json_option("what was revoked")
@click.pass_obj
def ca_revoke(tools: Tools, which: str, yes: bool, directory: str, as_json: bool) -> None:
    """
    Trust the certificates of NAME, or the one with SERIAL, no more.

    It holds where the new revoked.crl is: copy it to every machine.  Daemons there notice within seconds, and end the
    connections of whom it names.

    \b
    Example:
      dst ca revoke beta
    """
    sure(tools, yes, f"Whoever has the key of {which} is locked out of every machine that gets the new list.")
    authority = _authority(directory, tools)
    revoked = _told(lambda: authority.revoke(which))
    path = os.path.join(authority.directory, "revoked.crl")
    if not revoked:
        sentence = f"every certificate of {which} was revoked already"
    else:
        what = f"{len(revoked)} certificates" if len(revoked) > 1 else f"the certificate {revoked[0].serial}"
        sentence = f"{what} of {revoked[0].name} is revoked here; copy {path} to the other machines' directories"
    told(sentence, revoked=[each.serial for each in revoked], list=path)


@ca.command("renew")
@click.argument("which", required=False, metavar="[NAME|SERIAL]")
@_DAYS
@click.option("--out", metavar="FILE", help="Where the certificate is written; ./NAME.crt if not given.")
@_DIR
@json_option("what was renewed")
@click.pass_obj
def ca_renew(tools: Tools, which: str | None, days: float, out: str | None, directory: str, as_json: bool) -> None:
    """
    Make the certificate of NAME good from now on, for the same key; without NAME this machine's own.

    What is written is no secret: copy it to the other machine as this.crt in its security directory, and the daemon
    there uses it for the next connection.

    \b
    Examples:
      dst ca renew
      dst ca renew beta && scp beta.crt beta:/var/lib/dst/security/this.crt
    """
    from dst.security.directory import load
    from dst.security.files import write
    from dst.security.making import certificate_pem

    authority = _authority(directory, tools)

    def work() -> tuple[x509.Certificate, str, str]:
        own = load(directory).holder.name if os.path.exists(os.path.join(directory, "this.crt")) else None
        chosen = which or own
        if chosen is None:
            raise NotFound(f"{directory} has no certificate of its own; name the one to renew")
        certificate = authority.renew(chosen, days)
        name = str(_facts(certificate)["name"])
        target = out or (os.path.join(authority.directory, "this.crt") if name == own else f"{name}.crt")
        write(os.path.abspath(target), certificate_pem(certificate))
        return certificate, name, target

    certificate, name, target = _told(work)
    moved = "" if target.endswith("this.crt") else f"; copy it to {name} as this.crt in its security directory"
    told(
        f"{target} is the certificate of {name} until {_ends(certificate)}{moved}", file=target, **_facts(certificate)
    )


@ca.command("rotate")
@YES
@_AS
@_DIR
@json_option("the new authority")
@click.pass_obj
def ca_rotate(tools: Tools, yes: bool, own: str | None, directory: str, as_json: bool) -> None:
    """
    Begin to sign with a new key; both authorities are trusted until `dst ca retire`.

    Then, in this order: copy ca.crt and revoked.crl to every machine; `dst ca renew` for each, and copy that; when
    `dst ca list` shows nobody of the old one any more, `dst ca retire`, and copy ca.crt and revoked.crl once more.
    Nothing stops meanwhile.
    """
    sure(
        tools, yes, "Every machine has to get the new ca.crt before anybody gets a certificate of the new authority."
    )
    authority = _authority(directory, tools)
    certificate = _told(lambda: authority.rotate(own or _host_name()))
    lapsing = [each.name for each in _told(authority.lapsing)]
    told(
        f"{authority.directory}/ca.crt trusts the new authority and the old one; copy it to every machine, then "
        f"renew the certificates of: {', '.join(lapsing) or 'nobody'}",
        fingerprint=_fingerprint(certificate),
        to_renew=lapsing,
    )


@ca.command("retire")
@YES
@_DIR
@json_option("who is locked out")
@click.pass_obj
def ca_retire(tools: Tools, yes: bool, directory: str, as_json: bool) -> None:
    """
    Trust only the authority that signs now.
    """
    authority = _authority(directory, tools)
    lapsing = [each.name for each in _told(authority.lapsing)]
    if lapsing:
        sure(tools, yes, f"These have no certificate of the new authority and are locked out: {', '.join(lapsing)}.")
    else:
        sure(tools, yes, "Whoever has only a certificate of an earlier authority is locked out.")
    _told(authority.retire)
    told(
        f"only one authority is trusted here; copy {authority.directory}/ca.crt and revoked.crl to every machine",
        locked_out=lapsing,
    )


# -- joining -------------------------------------------------------------------------


@ca.command("invite")
@click.argument("name")
@click.option(
    "--listen", metavar="ADDRESS:PORT", help=f"Where to wait; this machine's address and {PORT} if not given."
)
@click.option("--minutes", type=float, default=10, show_default=True, help="How long to wait.")
@_ROLE
@click.option("--client", is_flag=True, help="NAME only connects, and never serves.")
@click.option("--again", is_flag=True, help="Also if NAME has a certificate that is good.")
@_AS
@_ADDRESS
@_DAYS
@_DIR
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
    host, port = _told(lambda: _listening_place(listen))

    wanted = Wanted(name, kind, None if role is None else Role(role), addresses, days)

    def sure_of_it() -> Authority:
        wanted.check()
        authority = _authority(directory, tools)
        if not authority.exists:
            _begin(authority, own or _host_name(), _addresses_of_this_machine(host))
            click.echo(f"made the authority {authority.directory}; keep a copy of it", err=True)
        elif not os.path.exists(os.path.join(authority.directory, "this.crt")):
            _certify_own(authority, Wanted(own or _host_name(), addresses=_addresses_of_this_machine(host)))
        if not again and any(each.name == name and each.good(tools.now()) for each in authority.issued()):
            raise InvalidRequest(
                f"{name} has a good certificate already; `dst ca revoke {name}` if it is lost, or say --again"
            )
        return authority

    authority = _told(sure_of_it)

    address = _done(tools, lambda reactor: _invite(reactor, authority, wanted, host, port, minutes, again))
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
        if wanted.kind is Kind.DAEMON and not wanted.addresses:
            asked = evolve(wanted, addresses=(address.partition("%")[0],))
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
@_DIR
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
    from dst.security.authority import write_identity
    from dst.security.files import directory_made
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

    accepted = _told(begin)
    key = make_key()

    async def work(reactor: Any) -> tuple[x509.Certificate, Grant]:
        from twisted.internet.endpoints import HostnameEndpoint

        from dst.security.joining import join

        endpoint = HostnameEndpoint(reactor, accepted.host, accepted.port)
        return await join(reactor, endpoint, accepted, key)

    certificate, grant = _done(tools, work)
    _told(lambda: write_identity(path, key, certificate, grant.trusted, grant.revocations))
    facts = _facts(certificate)
    told(
        f"this machine is {facts['name']}, until {_ends(certificate)}; its certificate is in {path}, which a daemon "
        f'uses when its topology says [daemon] security_dir = "{path}" (STATE_DIR/security it finds by itself)',
        directory=path,
        **facts,
    )


# -- what the machine is ----------------------------------------------------------------


def _host_name() -> str:
    """The machine's name, as one that a certificate can have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", platform.node().partition(".")[0])[:64].strip(".-") or "this-machine"


def _listening_place(listen: str | None) -> tuple[str, int]:
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


def _ends(certificate: x509.Certificate) -> str:
    return _day(certificate.not_valid_after_utc.timestamp())


def _fingerprint(certificate: x509.Certificate) -> str:
    from dst.security.authority import fingerprint

    return str(fingerprint(certificate).hex(":"))


def _facts(certificate: x509.Certificate) -> dict[str, object]:
    from dst.security.certificates import addresses_of, holder_of

    holder = holder_of(certificate)
    return {
        "name": holder.name,
        "kind": None if holder.kind is None else holder.kind.value,
        "role": None if holder.role is None else holder.role.value,
        "serial": holder.serial,
        "addresses": addresses_of(certificate),
        "ends": holder.ends,
    }
