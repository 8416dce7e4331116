"""
Who asks the daemon over HTTP, and whether they may.

There are four ways to be somebody, and the first that a request has decides:

  - a token (C{Authorization: Bearer ...}), see L{dst.admin.tokens};
  - a certificate with a role, over HTTPS;
  - being a process on this machine, over a UNIX socket: root and the daemon's own user may do everything, who is
    named in the topology's C{operators} may operate;
  - being on this machine, over loopback, as long as there are no tokens: then everything is allowed, as to anybody
    who can log in there.

Everybody else is asked for a token (401).  Who is known and may not do this is told what role it takes (403).  Wrong
tokens are counted by address, and after some of them the answer is to wait (429): one cannot be guessed, but the log
should not be filled by somebody who tries.  A right one is always heard, so nobody can lock another out.

A browser reaches loopback from the page of another site, too: that is what L{dst.admin.guard} is for, which comes
first.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable, Sequence
from typing import Any, Final

from attrs import field, frozen
from twisted.logger import Logger

from dst.admin.answers import Refused
from dst.admin.guard import Refusal
from dst.admin.routes.calls import Asker, Route
from dst.admin.tokens import FILE_NAME, TokenStore
from dst.errors import ConfigurationError, Denied, LimitReached
from dst.identity import Identity, Role, includes
from dst.transport.peers import Recently, identity_at, role_at

__all__ = ["FAILURES_MAX", "FAILURES_S", "Doorkeeper", "LocalUsers"]

_log = Logger()

FAILURES_MAX: Final = 10
"""Wrong tokens of one address in L{FAILURES_S}: a person who pastes the wrong line does it three times."""

FAILURES_S: Final = 60.0

_HEADER_CHARACTERS_MAX: Final = 1024
"""Of C{Authorization}; a token has 47."""


_SOMEBODY: Final = Asker("", Role.VIEW)
"""Whoever asks for what anybody may have."""


@frozen
class LocalUsers:
    """
    What users of this machine may do, over a UNIX socket.

    @ivar operators: names of users, and of groups as C{"@group"}.
    @ivar own: the user that the daemon runs as.
    """

    operators: tuple[str, ...] = ()
    own: int = field(factory=os.geteuid)

    def role_of(self, user_id: int) -> Role | None:
        """C{None} if nothing."""
        if user_id in (0, self.own):
            return Role.ADMIN
        try:
            user = pwd.getpwuid(user_id)
        except KeyError:
            return None
        for operator in self.operators:
            if operator == user.pw_name or operator.startswith("@") and _is_in_group(user, operator[1:]):
                return Role.OPERATE
        return None


def _is_in_group(user: pwd.struct_passwd, name: str) -> bool:
    try:
        group = grp.getgrnam(name)
    except KeyError:
        return False
    return group.gr_gid == user.pw_gid or user.pw_name in group.gr_mem


def user_words(user_id: int) -> str:
    """A user as people call them."""
    try:
        return f"user {pwd.getpwuid(user_id).pw_name}"
    except KeyError:
        return f"user {user_id}"


class Doorkeeper:
    """
    The gate of the site: see L{dst.admin.rest.Gate}.
    """

    def __init__(
        self,
        tokens: TokenStore | None,
        users: LocalUsers,
        clock_s: Callable[[], float],
    ) -> None:
        """
        @param tokens: C{None} where nothing can be kept, so that there are none.
        @param clock_s: seconds, of any beginning.
        """
        self._tokens = tokens
        self._users = users
        self._failures = Recently(clock_s, FAILURES_S, FAILURES_MAX + 2)
        self._strangers = Recently(clock_s, FAILURES_S, 2)

    @classmethod
    def of_daemon(
        cls, state_dir: str | None, operators: Sequence[str], clock_s: Callable[[], float], now: Callable[[], float]
    ) -> Doorkeeper:
        """The one of a daemon with that state directory."""
        store = None if state_dir is None else TokenStore(token_path(state_dir), now)
        return cls(store, LocalUsers(tuple(operators)), clock_s)

    def __call__(self, request: Any, route: Route) -> Asker:
        """See L{dst.admin.rest.Gate}."""
        if route.role is None:
            return _SOMEBODY
        transport = request.channel.transport
        identity = identity_at(transport)
        asker = self._by_token(request, identity) or self._by_place(transport, identity)
        if not includes(asker.role, route.role):
            _log.warn(
                "{who} at {where} may not {method} {path}: it takes the role {wanted}, and this is {role}",
                who=asker.words,
                where=str(identity),
                method=route.method,
                path=route.path,
                wanted=route.role.value,
                role=asker.role.value,
            )
            raise Refused(
                Refusal(
                    403,
                    Denied(f"this takes the role {route.role.value!r}, and {asker.words} has {asker.role.value!r}"),
                    f"use a token or certificate of the role {route.role.value!r}: "
                    f"`dst token create NAME --role {route.role.value}` on the machine of the daemon makes one",
                )
            )
        return asker

    def _by_token(self, request: Any, identity: Identity) -> Asker | None:
        values = request.requestHeaders.getRawHeaders(b"authorization") or []
        if not values:
            return None
        if len(values) != 1 or len(values[0]) > _HEADER_CHARACTERS_MAX:
            raise self._wrong(identity, "the Authorization header is there twice, or too long")
        scheme, _, secret = values[0].decode("latin-1").strip().partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise self._wrong(identity, "the Authorization header is no bearer token")
        if self._tokens is None:
            raise self._wrong(identity, "this daemon has no state_dir, so it has no tokens")
        try:
            token = self._tokens.find(secret.strip())
        except ConfigurationError as error:
            _log.error("tokens cannot be checked: {error}", error=error.message)
            raise self._wrong(identity, "tokens cannot be checked; the daemon's log says why") from None
        if token is None:
            raise self._wrong(identity, "the token is unknown here, or was revoked")
        if self._tokens.has_ended(token):
            raise self._wrong(identity, f"the token {token.name} has ended")
        return Asker(f"token {token.name}", token.role)

    def _by_place(self, transport: Any, identity: Identity) -> Asker:
        if identity.name is not None:
            role = role_at(transport)
            if role is None:
                raise self._unknown(
                    identity,
                    f"the certificate of {identity.name} has no role",
                    f"make one with a role: `dst ca issue {identity.name} --role view`",
                )
            return Asker(identity.name, role)
        if identity.user_id is not None:
            role = self._users.role_of(identity.user_id)
            words = user_words(identity.user_id)
            if role is None:
                raise self._unknown(
                    identity,
                    f"{words} is none of this daemon's operators",
                    "be named in [daemon] operators, or use a token",
                )
            return Asker(words, role)
        if identity.local and (self._tokens is None or not self._tokens.demanded()):
            return Asker("somebody on this machine", Role.ADMIN)
        raise self._unknown(identity, "nobody has said who asks", "")

    def _unknown(self, identity: Identity, why: str, correction: str) -> Refused:
        if self._strangers.note(identity.address or f"user {identity.user_id}") == 1:
            _log.info("{who} is asked for a token: {why}", who=str(identity), why=why)
        return _unauthorised(
            f"{why}; a token or a certificate with a role is needed",
            correction or "make a token with `dst token create NAME --role view` on the machine of the daemon",
        )

    def _wrong(self, identity: Identity, why: str) -> Refused:
        """A failed login."""
        address = identity.address or f"user {identity.user_id}"
        count = self._failures.note(address)
        if count <= FAILURES_MAX:
            _log.warn("{who} was refused: {why}", who=str(identity), why=why)
            return _unauthorised(why, "make a token with `dst token create NAME --role view` on the daemon's machine")
        wait_s = self._failures.wait_s(address)
        if count == FAILURES_MAX + 1:
            _log.warn("{who} has failed {count} times in a minute; more are not told here", who=address, count=count)
        return Refused(
            Refusal(
                429,
                LimitReached(f"{FAILURES_MAX} wrong tokens have come from {address} in a minute"),
                "wait, and use the right one",
                (("Retry-After", f"{wait_s:.0f}"),),
            )
        )


def token_path(state_dir: str) -> str:
    """Where the tokens of a daemon are."""
    return os.path.join(state_dir, *FILE_NAME)


def _unauthorised(why: str, correction: str) -> Refused:
    return Refused(Refusal(401, Denied(why), correction, (("WWW-Authenticate", 'Bearer realm="DST daemon"'),)))
