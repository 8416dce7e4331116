"""
C{dst ca}: who belongs to a cluster.

The commands work on files in a security directory and ask no daemon: the daemons that run notice new files by
themselves.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from dst.admin.ca_tools import (
    ADDRESS,
    AS,
    DAY_S,
    DAYS,
    DIR,
    ROLE,
    authority_in,
    begin,
    day,
    ends,
    facts_of,
    fingerprint_text,
    host_name,
    told_of,
)
from dst.admin.schema import API_VERSION
from dst.admin.tools import YES, Tools, json_option, json_wanted, show_json, sure, told
from dst.errors import InvalidRequest, NotFound
from dst.identity import Role

if TYPE_CHECKING:
    from cryptography import x509

    from dst.security.authority import Issued

__all__ = ["ca"]


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


@ca.command("init")
@click.argument("directory", required=False, metavar="[DIR]")
@AS
@ADDRESS
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
    authority = authority_in(path, tools)
    name = own or host_name()
    certificate = told_of(lambda: begin(authority, name, addresses))
    told(
        f"{authority.directory} has a new authority and the certificate of {name}; keep a copy of "
        f"{authority.directory}/authority where this machine cannot lose it",
        directory=authority.directory,
        name=name,
        fingerprint=fingerprint_text(certificate),
    )


@ca.command("issue")
@click.argument("name")
@ROLE
@click.option("--daemon", "kind", flag_value="daemon", help="For a daemon: it serves and connects.")
@click.option("--client", "kind", flag_value="person", help="For a person or program: it only connects.")
@ADDRESS
@DAYS
@click.option("--again", is_flag=True, help="Also if NAME has a good certificate, or shares an address.")
@click.option("--out", metavar="DIR", help="Where its security directory is made; ./NAME if not given.")
@DIR
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
    from dst.security.certificates import Kind
    from dst.security.identity_files import write_identity
    from dst.security.making import Wanted, make_key

    chosen = Kind(kind) if kind is not None else Kind.DAEMON if role is None else Kind.PERSON
    target = os.path.abspath(out or name)

    def work() -> x509.Certificate:
        authority = authority_in(directory, tools)
        wanted = Wanted(name, chosen, None if role is None else Role(role), addresses, days)
        wanted.check()
        if os.path.exists(os.path.join(target, "this.key")):
            raise InvalidRequest(f"{target} has a key already; name another directory with --out")
        key = make_key()
        certificate = authority.sign(wanted, key.public_key(), again=again)
        write_identity(target, key, certificate, authority.trusted_pem(), authority.revocations_pem())
        return certificate

    certificate = told_of(work)
    told(
        f"{target} is the security directory of the {chosen.value} {name}, until {ends(certificate)}; carry it "
        "there by a way that nobody else can read, and delete it here",
        directory=target,
        **facts_of(certificate),
    )


@ca.command("list")
@click.option("--all", "everything", is_flag=True, help="Also what has ended or is revoked.")
@DIR
@json_option("a list of certificates")
@click.pass_obj
def ca_list(tools: Tools, everything: bool, directory: str, as_json: bool) -> None:
    """
    List the certificates that this authority has made.

    \b
    Example:
      dst ca list --all
    """
    issued = told_of(lambda: authority_in(directory, tools).issued())
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
        return f"revoked {day(each.revoked)}"
    if each.ends <= now:
        return f"ended {day(each.ends)}"
    return f"until {day(each.ends)} ({(each.ends - now) / DAY_S:.0f} d)"


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
@DIR
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

    credentials = told_of(lambda: load(directory))
    here = told_of(lambda: authority_in(directory, tools)).exists
    left = (credentials.holder.ends - tools.now()) / DAY_S
    if json_wanted():
        show_json(
            {
                "version": API_VERSION,
                "directory": os.path.abspath(directory),
                "authority_here": here,
                "trusted": [
                    {
                        "subject": each.subject.rfc4514_string(),
                        "fingerprint": fingerprint_text(each),
                        "ends": each.not_valid_after_utc.timestamp(),
                    }
                    for each in credentials.trusted
                ],
                "revoked": len(credentials.revoked),
                "this": {**facts_of(credentials.certificate), "days_left": round(left, 2)},
            }
        )
        return
    click.echo(f"this is     {credentials.holder.name}, serial {credentials.holder.serial}")
    click.echo(f"until       {ends(credentials.certificate)} ({left:.0f} days)")
    click.echo(f"reached at  {', '.join(addresses_of(credentials.certificate)) or 'nowhere'}")
    for number, each in enumerate(credentials.trusted):
        click.echo(f"{'trusts' if not number else 'and':11} {each.subject.rfc4514_string()}, until {ends(each)}")
        click.echo(f"{'':11} SHA-256 {fingerprint_text(each)}")
    click.echo(f"revoked     {len(credentials.revoked)}")
    click.echo(f"authority   {'is kept here' if here else 'is on another machine'}")


@ca.command("revoke")
@click.argument("which", metavar="NAME|SERIAL")
@YES
@DIR
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
    authority = authority_in(directory, tools)
    revoked = told_of(lambda: authority.revoke(which))
    path = os.path.join(authority.directory, "revoked.crl")
    if not revoked:
        sentence = f"every certificate of {which} was revoked already"
    else:
        what = f"{len(revoked)} certificates" if len(revoked) > 1 else f"the certificate {revoked[0].serial}"
        sentence = f"{what} of {revoked[0].name} is revoked here; copy {path} to the other machines' directories"
    told(sentence, revoked=[each.serial for each in revoked], list=path)


@ca.command("renew")
@click.argument("which", required=False, metavar="[NAME|SERIAL]")
@DAYS
@click.option("--out", metavar="FILE", help="Where the certificate is written; ./NAME.crt if not given.")
@DIR
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

    authority = authority_in(directory, tools)

    def work() -> tuple[x509.Certificate, str, str]:
        own = load(directory).holder.name if os.path.exists(os.path.join(directory, "this.crt")) else None
        chosen = which or own
        if chosen is None:
            raise NotFound(f"{directory} has no certificate of its own; name the one to renew")
        certificate = authority.renew(chosen, days)
        name = str(facts_of(certificate)["name"])
        target = out or (os.path.join(authority.directory, "this.crt") if name == own else f"{name}.crt")
        write(os.path.abspath(target), certificate_pem(certificate))
        return certificate, name, target

    certificate, name, target = told_of(work)
    moved = "" if target.endswith("this.crt") else f"; copy it to {name} as this.crt in its security directory"
    told(
        f"{target} is the certificate of {name} until {ends(certificate)}{moved}",
        file=target,
        **facts_of(certificate),
    )


@ca.command("rotate")
@YES
@AS
@DIR
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
    authority = authority_in(directory, tools)
    certificate = told_of(lambda: authority.rotate(own or host_name()))
    lapsing = [each.name for each in told_of(authority.lapsing)]
    told(
        f"{authority.directory}/ca.crt trusts the new authority and the old one; copy it to every machine, then "
        f"renew the certificates of: {', '.join(lapsing) or 'nobody'}",
        fingerprint=fingerprint_text(certificate),
        to_renew=lapsing,
    )


@ca.command("retire")
@YES
@DIR
@json_option("who is locked out")
@click.pass_obj
def ca_retire(tools: Tools, yes: bool, directory: str, as_json: bool) -> None:
    """
    Trust only the authority that signs now.

    The last step of a rotation: whoever has no certificate of the new authority is locked out, and named before.

    \b
    Example:
      dst ca retire
    """
    authority = authority_in(directory, tools)
    lapsing = [each.name for each in told_of(authority.lapsing)]
    if lapsing:
        sure(tools, yes, f"These have no certificate of the new authority and are locked out: {', '.join(lapsing)}.")
    else:
        sure(tools, yes, "Whoever has only a certificate of an earlier authority is locked out.")
    told_of(authority.retire)
    told(
        f"only one authority is trusted here; copy {authority.directory}/ca.crt and revoked.crl to every machine",
        locked_out=lapsing,
    )
