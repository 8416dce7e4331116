"""What the commands about certificates have in common."""

from __future__ import annotations

import datetime
import platform
import re
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar, cast

import click

from dst.admin.schema import error_row
from dst.admin.tools import EXIT_ERROR, EXIT_NOT_ALLOWED, Tools, fail
from dst.errors import Denied, DSTError
from dst.identity import Role

if TYPE_CHECKING:
    from cryptography import x509
    from twisted.internet.interfaces import IReactorTime

    from dst.interfaces import IClusterAdmin
    from dst.security.authority import Authority
    from dst.security.making import Wanted

__all__ = [
    "ADDRESS",
    "AS",
    "DAYS",
    "DAY_S",
    "DIR",
    "ROLE",
    "authority_in",
    "begin",
    "certify_own",
    "day",
    "done",
    "ends",
    "facts_of",
    "fail_in_words",
    "fingerprint_text",
    "host_name",
    "told_of",
]

T = TypeVar("T")

DAY_S: Final = 86400.0

DIR = click.option(
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
ADDRESS = click.option(
    "--address",
    "addresses",
    multiple=True,
    metavar="ADDRESS",
    help="An address or host name at which the daemon is reached; can be given several times.",
)
DAYS = click.option("--days", type=float, default=365, show_default=True, help="How long the certificate is good.")
ROLE = click.option(
    "--role", type=click.Choice([role.value for role in Role]), help="What the holder may do with daemons over REST."
)
AS = click.option(
    "--as", "own", metavar="NAME", default=None, help="What this machine is called; its host name if not given."
)


def told_of(work: Callable[[], T]) -> T:
    """The result of C{work}; an error ends the command with its sentence."""
    try:
        return work()
    except DSTError as error:
        fail_in_words(error)


def fail_in_words(error: DSTError) -> NoReturn:
    """The sentences of what is refused here say what to do by themselves."""
    exit_code = EXIT_NOT_ALLOWED if isinstance(error, Denied) else EXIT_ERROR
    fail(error.message, "", code=error_row(error).code, exit_code=exit_code)


def done(tools: Tools, work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
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
        fail_in_words(refused[0])
    return cast(T, result)


def day(moment_s: float) -> str:
    return datetime.datetime.fromtimestamp(moment_s, datetime.UTC).strftime("%Y-%m-%d")


def authority_in(directory: str, tools: Tools) -> Authority:
    from dst.security.authority import Authority

    return Authority(directory, tools.now)


def begin(authority: Authority, name: str, addresses: tuple[str, ...]) -> x509.Certificate:
    """A new authority, with the certificate of the machine it is on."""
    from dst.security.making import Wanted

    wanted = Wanted(name, addresses=addresses)
    wanted.check()
    certificate = authority.create(name)
    certify_own(authority, wanted)
    return certificate


def certify_own(authority: Authority, wanted: Wanted) -> None:
    from dst.security.identity_files import write_identity
    from dst.security.making import make_key

    key = make_key()
    made = authority.sign(wanted, key.public_key())
    write_identity(authority.directory, key, made, authority.trusted_pem(), authority.revocations_pem())


def host_name() -> str:
    """The machine's name, as one that a certificate can have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", platform.node().partition(".")[0])[:64].strip(".-") or "this-machine"


def ends(certificate: x509.Certificate) -> str:
    return day(certificate.not_valid_after_utc.timestamp())


def fingerprint_text(certificate: x509.Certificate) -> str:
    from dst.security.authority import fingerprint

    return str(fingerprint(certificate).hex(":"))


def facts_of(certificate: x509.Certificate) -> dict[str, object]:
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
