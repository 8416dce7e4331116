"""Tests of C{dst ca} and C{dst join}, as far as they need no other machine."""

from __future__ import annotations

import json
import os
from pathlib import Path

from click.testing import Result

from dst.admin.join_commands import listening_place
from dst.errors import InvalidRequest
from dst.security.directory import load
from dst.security.invitation import Token
from test.admin.commands import CommandCase


class CACommandsTests(CommandCase):
    """What people and scripts type, and what they get."""

    def setUp(self) -> None:
        super().setUp()
        self.root = Path(self.mktemp()).absolute()
        self.root.mkdir()
        self.directory = str(self.root / "security")

    def made(self) -> Result:
        """An authority."""
        result = self.dst("ca", "init", self.directory, "--as", "alpha", "--address", "192.0.2.1")
        self.assertEqual(0, result.exit_code, result.stderr)
        return result

    def ca(self, *arguments: str, exit_code: int = 0, answer: str = "") -> Result:
        """C{dst ca}, with the authority."""
        result = self.dst("ca", *arguments, "--dir", self.directory, answer=answer)
        self.assertEqual(exit_code, result.exit_code, result.stdout + result.stderr)
        return result

    def assert_refused(self, result: Result, *words: str) -> None:
        """It says why on standard error, in one line, and nothing else."""
        self.assertEqual("", result.stdout)
        self.assertTrue(result.stderr.startswith("error: "), result.stderr)
        for each in words:
            self.assertIn(each, result.stderr)

    def test_init(self) -> None:
        """One command makes an authority and this machine's certificate; it says what to keep a copy of."""
        result = self.made()
        self.assertIn(f"keep a copy of {self.directory}/authority", result.stdout)
        credentials = load(self.directory)
        self.assertEqual("alpha", credentials.holder.name)
        shown = self.ca("show").stdout
        for words in ("this is     alpha", "192.0.2.1, ", "DST authority alpha", "SHA-256 ", "is kept here"):
            self.assertIn(words, shown)
        again = self.dst("ca", "init", self.directory)
        self.assertEqual(1, again.exit_code)
        self.assert_refused(again, "has an authority already")

    def test_bad_init(self) -> None:
        """A name or an address that is none is refused before anything is made."""
        for arguments in (("--as", "a b"), ("--as", "alpha", "--address", "every where")):
            result = self.dst("ca", "init", self.directory, *arguments)
            self.assert_refused(result, "expected up to 64" if "a b" in arguments else "is neither an address")
            self.assertFalse(os.path.exists(self.directory))

    def test_issue(self) -> None:
        """A daemon or a person; each in a directory of its own, which is not overwritten."""
        self.made()
        out = str(self.root / "beta")
        result = self.ca("issue", "beta", "--address", "192.0.2.2", "--out", out)
        self.assertIn("the security directory of the daemon beta", result.stdout)
        self.assertEqual("beta", load(out).holder.name)
        facts = json.loads(
            self.ca("issue", "eve", "--role", "view", "--out", str(self.root / "eve"), "--json").stdout
        )
        self.assertEqual(("eve", "person", "view"), (facts["name"], facts["kind"], facts["role"]))
        facts = json.loads(self.ca("issue", "backup", "--client", "--out", str(self.root / "b"), "--json").stdout)
        self.assertEqual(("person", None), (facts["kind"], facts["role"]))
        self.assert_refused(self.ca("issue", "gamma", "--out", out, exit_code=1), "has a key already", "--out")
        self.assert_refused(
            self.ca("issue", "beta", "--out", str(self.root / "c"), exit_code=1),
            "has a certificate already",
            "--again",
        )
        self.ca("issue", "beta", "--again", "--out", str(self.root / "c"))
        self.assert_refused(
            self.ca("issue", "d", "--client", "--address", "192.0.2.9", "--out", str(self.root / "d"), exit_code=1),
            "is a person, who serves at no address",
        )

    def test_elsewhere(self) -> None:
        """Where the authority is not, nothing is signed, and it is said where to go."""
        self.assert_refused(self.ca("list", exit_code=1), "`dst ca init` or `dst join` makes one")
        self.made()
        out = str(self.root / "beta")
        self.ca("issue", "beta", "--out", out)
        self.directory = out
        for arguments in (("list",), ("issue", "x"), ("revoke", "beta", "--yes"), ("renew",), ("rotate", "--yes")):
            self.assert_refused(self.ca(*arguments, exit_code=1), "run this where it was made")
        self.assertIn("is on another machine", self.ca("show").stdout)

    def test_list_and_revoke(self) -> None:
        """A list has what is good, or everything; to revoke is asked about."""
        self.made()
        self.ca("issue", "beta", "--out", str(self.root / "beta"))
        self.can_ask = False
        self.assertIn("is locked out", self.ca("revoke", "beta", exit_code=1).stderr)
        self.can_ask = True
        self.ca("revoke", "beta", exit_code=1, answer="n\n")
        self.assertIn("beta", self.ca("list").stdout)
        revoked = self.ca("revoke", "beta", answer="y\n").stdout
        self.assertIn(f"copy {self.directory}/revoked.crl to the other machines", revoked)
        self.assertNotIn("beta", self.ca("list").stdout)
        rows = json.loads(self.ca("list", "--all", "--json").stdout)["certificates"]
        self.assertEqual([("alpha", "good"), ("beta", "revoked")], [(each["name"], each["state"]) for each in rows])
        self.assertIn("was revoked already", self.ca("revoke", "beta", "--yes").stdout)
        self.assert_refused(self.ca("revoke", "gamma", "--yes", exit_code=1), "there are some of: alpha, beta")

    def test_renew(self) -> None:
        """This machine's own is renewed where it is; another one's is written to be copied."""
        self.made()
        before = load(self.directory).certificate
        self.assertIn("this.crt is the certificate of alpha", self.ca("renew").stdout)
        after = load(self.directory).certificate
        self.assertNotEqual(before.serial_number, after.serial_number)
        self.ca("issue", "beta", "--out", str(self.root / "beta"))
        target = str(self.root / "beta.crt")
        self.assertIn("copy it to beta as this.crt", self.ca("renew", "beta", "--out", target).stdout)
        os.replace(target, self.root / "beta" / "this.crt")
        self.assertEqual("beta", load(str(self.root / "beta")).holder.name)

    def test_rotate(self) -> None:
        """Every step says what comes next; retiring names who is locked out, and asks."""
        self.made()
        self.ca("issue", "beta", "--out", str(self.root / "beta"))
        self.assertEqual(["alpha", "beta"], json.loads(self.ca("rotate", "--yes", "--json").stdout)["to_renew"])
        self.ca("renew")
        self.assertIn("are locked out: beta.", self.ca("retire", exit_code=1, answer="n\n").stderr)
        self.ca("renew", "beta", "--out", str(self.root / "beta" / "this.crt"))
        self.assertNotIn("are locked out", self.ca("retire", answer="y\n").stdout)
        self.assertEqual(1, len(load(self.directory).trusted))

    def test_join_refused(self) -> None:
        """Half a token, another word, or a directory in use, is refused before anybody is asked."""
        token = Token("192.0.2.1", 7451, bytes(32), bytes(16)).encode()
        beta = str(self.root / "beta")
        self.assert_refused(self.dst("join", token[:-1], "--dir", beta), "the token is damaged")
        self.assert_refused(self.dst("join", "hello", "--dir", beta), "a token begins with dst1-")
        self.assert_refused(self.dst("join", "-", "--dir", beta, answer="dst1-\n"), "the token is damaged")
        self.assertFalse(os.path.exists(beta))
        self.made()
        self.assert_refused(self.dst("join", token, "--dir", self.directory), "has an authority of its own")
        self.ca("issue", "beta", "--out", beta)
        self.assert_refused(self.dst("join", token, "--dir", beta), "has a key already", "--again")

    def test_invite_refused(self) -> None:
        """What cannot be invited is refused before anybody waits."""
        self.made()
        self.assert_refused(self.ca("invite", "alpha", exit_code=1), "alpha has a certificate already")
        # The name that was meant to be the inviting machine's own.
        taken = self.ca("invite", "beta", "--as", "alpha", "--address", "192.0.2.1", exit_code=1)
        self.assert_refused(taken, "192.0.2.1 is where alpha is reached, and beta could be taken for it")
        self.assert_refused(self.ca("invite", "a/b", exit_code=1), "is no name")
        self.assert_refused(self.ca("invite", "beta", "--listen", "nowhere", exit_code=1), "is no place to wait at")
        self.assert_refused(self.ca("invite", "beta", "--minutes", "0", exit_code=2), "is no time to wait")

    def test_places(self) -> None:
        """Addresses of both kinds, with and without a port; names are not waited at."""
        self.assertEqual(("192.0.2.1", 7451), listening_place("192.0.2.1"))
        self.assertEqual(("192.0.2.1", 1), listening_place("192.0.2.1:1"))
        self.assertEqual(("2001:db8::1", 1), listening_place("[2001:db8::1]:1"))
        for bad in ("", "a:1", "192.0.2.1:x", "192.0.2.1:70000", "192.0.2.1:-1", ":"):
            self.assertRaises(InvalidRequest, listening_place, bad)
