"""Tests of L{dst.admin.tokens}."""

from __future__ import annotations

import os
import stat

from twisted.trial.unittest import SynchronousTestCase

from dst.admin.authentication import token_path
from dst.admin.tokens import TOKENS_MAX, TokenStore
from dst.errors import ConfigurationError, InvalidRequest, LimitReached, NotFound
from dst.identity import Role


class TokenTests(SynchronousTestCase):
    """Tokens in a file."""

    def setUp(self) -> None:
        self.moment = 1000.0
        directory = self.mktemp()
        os.mkdir(directory)
        self.path = token_path(directory)
        self.store = self.another()

    def another(self) -> TokenStore:
        """The same file, as another process sees it."""
        return TokenStore(self.path, lambda: self.moment)

    def test_life(self) -> None:
        """A token is found by who has it, in every process, until it is revoked."""
        self.assertFalse(self.store.demanded())
        self.assertEqual((), self.store.tokens())
        daemon = self.another()
        self.assertIs(None, daemon.find("dst_x"))
        secret = self.store.create("eve", Role.OPERATE)
        other = self.store.create("bob", Role.VIEW, 2)
        found = daemon.find(secret)
        assert found is not None
        self.assertEqual(("eve", Role.OPERATE, None), (found.name, found.role, found.ends))
        self.assertEqual(["bob", "eve"], [token.name for token in daemon.tokens()])
        for wrong in ("", secret[:-1], secret + "x", secret.upper(), other[:-2] + "zz", "\udcff", found.digest):
            self.assertIs(None, daemon.find(wrong))
        self.store.revoke("eve")
        self.assertIs(None, daemon.find(secret))
        self.store.revoke("bob")
        self.assertEqual((True, ()), (daemon.demanded(), daemon.tokens()))

    def test_end(self) -> None:
        """A token has an end, if that was said."""
        secret = self.store.create("bob", Role.VIEW, 2)
        token = self.store.find(secret)
        assert token is not None
        self.assertFalse(self.store.has_ended(token))
        self.moment += 2 * 86400
        self.assertTrue(self.store.has_ended(token))

    def test_not_in_the_file(self) -> None:
        """The file is for its owner only, and the token itself is not in it."""
        secret = self.store.create("eve", Role.ADMIN)
        self.assertEqual(0o600, stat.S_IMODE(os.stat(self.path).st_mode))
        self.assertEqual(0o700, stat.S_IMODE(os.stat(os.path.dirname(self.path)).st_mode))
        with open(self.path) as file:
            self.assertNotIn(secret[4:20], file.read())
        self.assertEqual(47, len(secret))
        self.assertNotEqual(secret, self.store.create("eve2", Role.ADMIN))

    def test_refused(self) -> None:
        """Names and times that are none, a name that is taken, and one that is not there."""
        self.store.create("eve", Role.ADMIN)
        for name, days in (("eve", None), ("../x", None), ("", None), ("a b", None), ("x", 0.0), ("x", float("nan"))):
            self.assertRaises(InvalidRequest, self.store.create, name, Role.VIEW, days)
        self.assertRaises(NotFound, self.store.revoke, "nobody")
        for number in range(TOKENS_MAX - 1):
            self.store.create(f"n{number}", Role.VIEW)
        self.assertRaises(LimitReached, self.store.create, "one-more", Role.VIEW)

    def test_file_that_cannot_be_used(self) -> None:
        """A file that others can read, or that is none, lets nobody in, and is not taken for no tokens."""
        secret = self.store.create("eve", Role.ADMIN)
        os.chmod(self.path, 0o644)
        self.assertRaises(ConfigurationError, self.another().find, secret)
        os.chmod(self.path, 0o600)
        self.assertIsNot(None, self.another().find(secret))
        for data in (b"", b"[]", b"{}", b'{"version": 2, "tokens": []}', b"\xff", b"[" * 100_000):
            with open(self.path, "wb") as file:
                file.write(data)
            self.assertRaises(ConfigurationError, self.another().find, secret)
            self.assertTrue(self.another().demanded())
