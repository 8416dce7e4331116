"""
Tokens: who may operate a daemon, without a certificate.

A token is 32 random bytes, shown once, when it is made.  What is kept (C{STATE_DIR/access/tokens.json}, for its owner
only) is the SHA-256 of it, with a name, a role and an end: who reads the file can be nobody by it.  A token cannot be
guessed, so its hash need not be slow.

The file is the truth: the command line writes it and the daemon looks at it before each request, so a token that is
revoked is nothing from the next request on.  While there is no such file there are no tokens, and whoever is on the
machine may do everything, as long as the daemon is asked at its loopback address.  From the first token on everybody
needs one, also when all of them have been revoked.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from collections.abc import Callable
from typing import Final

from attrs import frozen

from dst.errors import ConfigurationError, InvalidRequest, LimitReached, NotFound
from dst.identity import Role
from dst.security.certificates import check_name
from dst.security.files import directory_made, locked, read_private, write

__all__ = ["FILE_NAME", "TOKENS_MAX", "Token", "TokenStore"]

FILE_NAME: Final = ("access", "tokens.json")
"""Below the state directory; the directory is a lock of its own, since the daemon has that of the other one."""

TOKENS_MAX: Final = 256
"""Each is compared with what a client shows; beyond that, certificates are the better way."""

SECRET_BYTES: Final = 32
PREFIX: Final = "dst_"
"""So that whoever finds one knows what it is, and programs that look for secrets do, too."""

DAYS_MAX: Final = 3660.0
_DAY_S: Final = 86400.0


@frozen
class Token:
    """
    What is known of one.

    @ivar digest: the SHA-256 of it, in hexadecimal digits.
    @ivar made: seconds of the epoch.
    @ivar ends: seconds of the epoch; C{None}: never.
    """

    name: str
    role: Role
    digest: str
    made: float
    ends: float | None = None


class TokenStore:
    """The tokens in a file."""

    def __init__(self, path: str, now: Callable[[], float], entropy: Callable[[int], bytes] = os.urandom) -> None:
        """
        @param path: of the file; there need not be one.
        @param now: seconds of the epoch.
        """
        self.path = path
        self._now = now
        self._entropy = entropy
        self._signature: tuple[int, ...] | None = None
        self._tokens: tuple[Token, ...] = ()

    # For the daemon

    def demanded(self) -> bool:
        """Whether there have ever been tokens; as long as that cannot be told, there have."""
        try:
            os.lstat(self.path)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return True

    def find(self, secret: str) -> Token | None:
        """
        The token that C{secret} is, if it is one; it may have ended.

        Every token is compared, in a time that does not depend on how much is equal.

        @raise ConfigurationError: the file cannot be used, so nobody is let in by it.
        """
        digest = _digest(secret)
        found = None
        for token in self.tokens():
            if hmac.compare_digest(token.digest, digest):
                found = token
        return found

    def has_ended(self, token: Token) -> bool:
        """Whether its time is over."""
        return token.ends is not None and token.ends <= self._now()

    def tokens(self) -> tuple[Token, ...]:
        """
        Every token, by name.

        @raise ConfigurationError: the file cannot be used.
        """
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            self._signature, self._tokens = None, ()
            return ()
        except OSError as error:
            raise ConfigurationError(f"{self.path} cannot be read: {error.strerror}") from None
        signature = (status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode, status.st_ctime_ns)
        if signature != self._signature:
            self._tokens = _parsed(self.path, read_private(self.path))
            self._signature = signature
        return self._tokens

    # For people

    def create(self, name: str, role: Role, days: float | None = None) -> str:
        """
        A new token.

        @return: what its owner shows; it is not to be had again.
        @raise InvalidRequest: there is one of that name, or the name or the days are none.
        """
        check_name(name)
        if days is not None and not 0 < days <= DAYS_MAX:
            raise InvalidRequest(f"{days:g} days are no time for a token; expected up to {DAYS_MAX:g}")
        secret = PREFIX + base64.urlsafe_b64encode(self._entropy(SECRET_BYTES)).rstrip(b"=").decode()
        now = self._now()
        ends = None if days is None else now + days * _DAY_S
        directory_made(os.path.dirname(self.path))
        with locked(os.path.dirname(self.path)):
            tokens = self.tokens()
            if any(token.name == name for token in tokens):
                raise InvalidRequest(f"there is a token {name!r} already; revoke it, or take another name")
            if len(tokens) >= TOKENS_MAX:
                raise LimitReached(f"there are {TOKENS_MAX} tokens, the most there may be; revoke one")
            self._write((*tokens, Token(name, role, _digest(secret), now, ends)))
        return secret

    def revoke(self, name: str) -> None:
        """
        C{name} is no token any more, from now on.

        @raise NotFound: there is none of that name.
        """
        directory_made(os.path.dirname(self.path))
        with locked(os.path.dirname(self.path)):
            tokens = self.tokens()
            left = tuple(token for token in tokens if token.name != name)
            if len(left) == len(tokens):
                names = ", ".join(token.name for token in tokens[:12]) or "none"
                raise NotFound(f"there is no token {name[:80]!r}; there are: {names}")
            self._write(left)

    def _write(self, tokens: tuple[Token, ...]) -> None:
        rows = [
            {"name": each.name, "role": each.role.value, "sha256": each.digest, "made": each.made, "ends": each.ends}
            for each in sorted(tokens, key=lambda token: token.name)
        ]
        write(self.path, json.dumps({"version": 1, "tokens": rows}, indent=1).encode() + b"\n", private=True)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _parsed(path: str, data: bytes) -> tuple[Token, ...]:
    try:
        document = json.loads(data)
        if document["version"] != 1 or len(document["tokens"]) > TOKENS_MAX:
            raise ValueError("it is of another version, or has too many tokens")
        return tuple(
            Token(
                str(row["name"]),
                Role(row["role"]),
                str(row["sha256"]),
                float(row["made"]),
                None if row["ends"] is None else float(row["ends"]),
            )
            for row in document["tokens"]
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigurationError(
            f"{path} is no file of tokens ({error}); move it away and make new tokens with `dst token create`"
        ) from None
