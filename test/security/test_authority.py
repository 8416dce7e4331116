"""Tests of L{dst.security.authority}, L{dst.security.making} and L{dst.security.certificates}."""

from __future__ import annotations

import datetime
import json
import os
import stat

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dst.errors import AlreadyInUse, ConfigurationError, InvalidRequest, LimitReached, NotFound
from dst.identity import Role
from dst.security import authority as authority_module
from dst.security import files
from dst.security.authority import Authority, fingerprint
from dst.security.certificates import (
    BadCertificate,
    Kind,
    addresses_of,
    check_name,
    fits_host,
    identity_of,
    is_signed_by,
    serial_text,
)
from dst.security.directory import load
from dst.security.files import directory_made
from dst.security.making import DAYS_MAX, Wanted, certificate_pem, make_key, make_request, request_key
from test.security.machines import Machines


class DirectoryTests(SynchronousTestCase):
    """Directories that root makes for others."""

    def test_something_else_at_its_place(self) -> None:
        """Whoever owns what is above is given the directory that was made, and nothing that they have put there."""
        above = os.path.realpath(self.mktemp())
        os.mkdir(above)
        precious = os.path.realpath(self.mktemp())
        os.mkdir(precious)
        theirs = os.path.join(above, "security")
        if os.geteuid() == 0:
            os.chown(above, 4711, 4711)
        make = os.mkdir

        def exchanged(path: str, mode: int) -> None:
            make(path, mode)
            os.rmdir(path)
            os.symlink(precious, path)

        self.patch(files.os, "mkdir", exchanged)
        self.assertRaises(ConfigurationError, directory_made, theirs)
        self.assertEqual(os.geteuid(), os.stat(precious).st_uid)

        def filled(path: str, mode: int) -> None:
            make(path, mode)
            os.rmdir(path)
            os.rename(precious, path)

        os.unlink(theirs)
        make(os.path.join(precious, "something"))
        self.patch(files.os, "mkdir", filled)
        self.assertRaises(ConfigurationError, directory_made, theirs)
        self.assertEqual(os.geteuid(), os.stat(theirs).st_uid)


class AuthorityTests(SynchronousTestCase):
    """Who is certified, renewed, revoked, and what is left on the disk."""

    def setUp(self) -> None:
        self.machines = Machines(self.mktemp())
        self.authority = self.machines.authority

    def mode(self, *path: str) -> int:
        """Who may do what with a file of the authority."""
        return stat.S_IMODE(os.stat(os.path.join(self.authority.directory, *path)).st_mode)

    def test_files(self) -> None:
        """Keys are for their owner only, and so are the directories around them."""
        self.machines.add("alpha")
        self.assertEqual(
            [0o700, 0o700, 0o600], [self.mode(), self.mode("authority"), self.mode("authority", "ca.key")]
        )
        self.assertEqual(0o600, self.mode("authority", "issued.json"))
        path = self.machines.path("alpha")
        self.assertEqual(0o600, stat.S_IMODE(os.stat(os.path.join(path, "this.key")).st_mode))
        self.assertEqual([], [each for each in os.listdir(path) if each.endswith(".new")])
        for name in (
            "ca-cert.pem",
            "server-cert.pem",
            "server-key.pem",
            "client-cert.pem",
            "client-key.pem",
            "ca-crl.pem",
        ):
            self.assertTrue(os.path.exists(os.path.join(path, name)), name)

    def test_identity(self) -> None:
        """A certificate says whose it is, what they may do, and where."""
        self.assertEqual(
            ("alpha", None, Kind.DAEMON), identity_of(self.machines.add("alpha", addresses=("10.0.0.1",)))
        )
        eve = self.machines.add("eve", kind=Kind.PERSON, role=Role.VIEW)
        self.assertEqual(("eve", Role.VIEW, Kind.PERSON), identity_of(eve))
        self.assertEqual([], addresses_of(eve))

    def test_hosts(self) -> None:
        """It is for its addresses, its name, and this machine; for nothing that looks like them."""
        made = self.machines.add("alpha", addresses=("10.0.0.1", "2001:db8::1", "Alpha.Example"))
        for host in ("10.0.0.1", "2001:db8:0::1", "alpha.example", "ALPHA.EXAMPLE.", "alpha", "localhost", "::1"):
            self.assertTrue(fits_host(made, host), host)
        for host in ("10.0.0.10", "2001:db8::2", "example", "x.alpha.example", "*.example", "", "0.0.0.0"):
            self.assertFalse(fits_host(made, host), host)

    def test_refused_names(self) -> None:
        """What is no name, no address, or too long is refused before anything is signed."""
        key = make_key().public_key()
        for wanted in (
            Wanted(""),
            Wanted("a/b"),
            Wanted(".."),
            Wanted("a" * 65),
            Wanted("a\nb"),
            Wanted("ä"),
            Wanted("a", addresses=("not an address",)),
            Wanted("a", addresses=("10.0.0.1/24",)),
            Wanted("a", addresses=("10.0.0.1",) * 65),
            Wanted("a", days=0),
            Wanted("a", days=DAYS_MAX + 1),
            Wanted("a", Kind.PERSON, addresses=("10.0.0.1",)),
        ):
            self.assertRaises(InvalidRequest, self.authority.sign, wanted, key)
        self.assertEqual([], self.authority.issued())

    def test_name_once(self) -> None:
        """A name has one good certificate, unless somebody says that there may be two; it is one kind of thing."""
        key = make_key().public_key()
        self.authority.sign(Wanted("alpha"), key)
        error = self.assertRaises(AlreadyInUse, self.authority.sign, Wanted("alpha"), key)
        self.assertIn("say --again", error.message)
        self.authority.sign(Wanted("alpha"), key, again=True)
        error = self.assertRaises(AlreadyInUse, self.authority.sign, Wanted("alpha", Kind.PERSON), key, again=True)
        self.assertIn("is a daemon already", error.message)
        self.authority.revoke("alpha")
        self.authority.sign(Wanted("alpha", Kind.PERSON), key)

    def test_address_once(self) -> None:
        """Nobody gets a certificate for a place where another one is reached, by address or by name."""
        self.machines.add("alpha", addresses=("192.0.2.1", "2001:db8::1", "alpha.example", "127.0.0.1"))
        for address in ("192.0.2.1", "2001:db8:0:0::1", "ALPHA.example", "alpha"):
            error = self.assertRaises(AlreadyInUse, self.machines.add, "beta", addresses=("192.0.2.2", address))
            self.assertIn(f"{address} is where alpha is reached, and beta could be taken for it", error.message)
        error = self.assertRaises(AlreadyInUse, self.machines.add, "alpha.example")
        self.assertIn("alpha.example is where alpha is reached", error.message)
        self.machines.add("beta", addresses=("192.0.2.2", "127.0.0.1"))
        self.machines.add("eve", kind=Kind.PERSON)
        self.machines.add("gamma", addresses=("192.0.2.1",), again=True)
        self.assertEqual("alpha", self.authority.other_at("192.0.2.1", "beta"))
        self.authority.revoke("alpha")
        self.authority.revoke("gamma")
        self.machines.add("delta", addresses=("192.0.2.1",))
        self.assertIs(None, self.authority.other_at("192.0.2.1", "delta"))

    def test_once(self) -> None:
        """A directory has one authority; one that trusts another gets none of its own."""
        error = self.assertRaises(AlreadyInUse, self.authority.create, "again")
        self.assertIn("has an authority already", error.message)
        self.machines.add("alpha")
        error = self.assertRaises(AlreadyInUse, Authority(self.machines.path("alpha")).create, "alpha")
        self.assertIn("belongs to the authority of another machine", error.message)
        error = self.assertRaises(NotFound, Authority(self.machines.path("alpha")).issued)
        self.assertIn("run this where it was made", error.message)

    def test_renew(self) -> None:
        """A renewed certificate is for the same key and the same things, from now on."""
        before = self.machines.add("alpha", addresses=("10.0.0.1",), role=Role.OPERATE, days=10)
        self.machines.moment += 9 * 86400
        after = self.authority.renew("alpha", 20)
        self.assertEqual(before.public_key(), after.public_key())
        self.assertEqual(identity_of(before), identity_of(after))
        self.assertEqual(addresses_of(before), addresses_of(after))
        self.assertEqual(19, round((after.not_valid_after_utc - before.not_valid_after_utc).total_seconds() / 86400))
        self.authority.renew(serial_text(before), 5)
        self.authority.revoke("alpha")
        error = self.assertRaises(NotFound, self.authority.renew, "alpha", 20)
        self.assertIn("is revoked; issue a new one with a new key", error.message)
        self.assertRaises(NotFound, self.authority.renew, "nobody", 20)

    def test_revoke(self) -> None:
        """By name or by number; what is revoked once stays so."""
        first = self.machines.add("alpha")
        second = self.machines.add("alpha", again=True)
        self.machines.add("beta")
        self.assertEqual(
            [serial_text(first)], [each.serial for each in self.authority.revoke(serial_text(first).upper())]
        )
        self.assertEqual([serial_text(second)], [each.serial for each in self.authority.revoke("alpha")])
        self.assertEqual([], self.authority.revoke("alpha"))
        credentials = load(self.machines.path("beta"))
        self.assertFalse(credentials.is_revoked(first))
        self.machines.copy("revoked.crl", "beta")
        credentials = load(self.machines.path("beta"))
        self.assertEqual(
            [True, True, False], [credentials.is_revoked(each) for each in (first, second, credentials.certificate)]
        )
        error = self.assertRaises(NotFound, self.authority.revoke, "gamma")
        self.assertIn("there are some of: alpha, beta", error.message)

    def test_ends_with_authority(self) -> None:
        """No certificate is good for longer than its authority; one that has ended signs nothing."""
        self.machines.moment += 3600 * 86400
        made = self.machines.add("alpha", days=365)
        self.assertEqual(self.authority.certificate.not_valid_after_utc, made.not_valid_after_utc)
        self.machines.moment += 60 * 86400
        error = self.assertRaises(InvalidRequest, self.machines.add, "beta")
        self.assertIn("`dst ca rotate` makes the next one", error.message)

    def test_rotate(self) -> None:
        """While one authority follows the other both are trusted, and both can revoke."""
        first = self.machines.add("alpha")
        old = self.authority.certificate
        new = self.authority.rotate("next")
        self.assertEqual([new, old], self.authority.trusted())
        second = self.machines.add("beta")
        self.assertTrue(is_signed_by(second, new) and not is_signed_by(second, old))
        self.assertEqual(["alpha"], [each.name for each in self.authority.lapsing()])
        self.authority.revoke("alpha")
        self.machines.copy("revoked.crl", "beta")
        self.assertTrue(load(self.machines.path("beta")).is_revoked(first))
        self.machines.add("gamma")
        renewed = self.authority.renew("gamma", 30)
        self.assertTrue(is_signed_by(renewed, new))
        self.authority.retire()
        self.assertEqual([new], self.authority.trusted())
        self.assertEqual([], os.listdir(os.path.join(self.authority.directory, "authority", "earlier")))
        self.assertEqual(new, self.authority.certificate)

    def test_forgotten_in_time(self) -> None:
        """What has ended long ago is no longer kept account of; what ended lately is."""
        self.machines.add("alpha", days=1)
        self.machines.moment += 50 * 86400
        self.machines.add("beta", days=1)
        self.assertEqual(["alpha", "beta"], [each.name for each in self.authority.issued()])
        self.machines.moment += 50 * 86400
        self.machines.add("gamma")
        self.assertEqual(["beta", "gamma"], [each.name for each in self.authority.issued()])

    def test_limit(self) -> None:
        """There is a number of certificates beyond which none is made."""
        self.patch(authority_module, "ISSUED_MAX", 2)
        self.machines.add("alpha")
        self.machines.add("beta")
        self.assertRaises(LimitReached, self.machines.add, "gamma")

    def test_damaged(self) -> None:
        """A damaged authority is said to be, and nothing is signed."""
        own = os.path.join(self.authority.directory, "authority")
        os.chmod(os.path.join(own, "ca.key"), 0o644)
        self.assertIn("is open to others", self.assertRaises(ConfigurationError, self.machines.add, "a").message)
        os.chmod(os.path.join(own, "ca.key"), 0o600)
        with open(os.path.join(own, "ca.key"), "rb") as source:
            key = source.read()
        other = Machines(self.mktemp())
        with open(os.path.join(other.authority.directory, "authority", "ca.key"), "rb") as source:
            wrong = source.read()
        with open(os.path.join(own, "ca.key"), "wb") as target:
            target.write(wrong)
        self.assertIn("does not belong to", self.assertRaises(ConfigurationError, self.machines.add, "a").message)
        with open(os.path.join(own, "ca.key"), "wb") as target:
            target.write(key)
        for text in ("", "{}", "[]", '{"issued": [{"name": 1}]}', "x" * 100):
            with open(os.path.join(own, "issued.json"), "w") as words:
                words.write(text)
            error = self.assertRaises(ConfigurationError, self.machines.add, "a")
            self.assertIn("restore it from the copy of the authority", error.message)
        os.unlink(os.path.join(own, "issued.json"))
        self.assertIn("is missing", self.assertRaises(ConfigurationError, self.authority.issued).message)

    def test_account_before_signing(self) -> None:
        """What is signed is written down first."""
        os.rmdir(os.path.join(self.authority.directory, "authority", "issued"))
        self.assertRaises(ConfigurationError, self.machines.add, "alpha")
        self.assertEqual(["alpha"], [each.name for each in self.authority.issued()])

    def test_account(self) -> None:
        """The account is JSON that says who has what."""
        self.machines.add("eve", kind=Kind.PERSON, role=Role.ADMIN)
        with open(os.path.join(self.authority.directory, "authority", "issued.json")) as source:
            table = json.load(source)
        self.assertEqual(1, table["version"])
        (row,) = table["issued"]
        self.assertEqual(("eve", "person", "admin", None), (row["name"], row["kind"], row["role"], row["revoked"]))
        self.assertEqual(fingerprint(self.authority.certificate).hex(), row["authority"])


class CertificateTests(SynchronousTestCase):
    """Certificates of other makers, and strange ones."""

    def make(self, common: str | None, *uris: str) -> x509.Certificate:
        """A certificate that says these things."""
        key = make_key()
        name = x509.Name([] if common is None else [x509.NameAttribute(NameOID.COMMON_NAME, common)])
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(7)
            .not_valid_before(now)
            .not_valid_after(now + datetime.timedelta(days=1))
        )
        if uris:
            names = [x509.UniformResourceIdentifier(each) for each in uris]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(key, hashes.SHA256())

    def test_others(self) -> None:
        """One of another maker has its common name, and no role whatever it says."""
        self.assertEqual(("web", None, None), identity_of(self.make("web")))
        self.assertEqual(("web", None, None), identity_of(self.make("web", "spiffe://x/y", "dst:role:admin")))

    def test_uri_is_believed(self) -> None:
        """Where the common name and the URI differ the URI is right."""
        self.assertEqual(
            ("eve", Role.VIEW, Kind.PERSON), identity_of(self.make("root", "dst:person:eve", "dst:role:view"))
        )

    def test_strange(self) -> None:
        """Two names, two roles, unknown roles and things that are no names are refused."""
        for made in (
            self.make(None),
            self.make("a b"),
            self.make("a\nb"),
            self.make("x", "dst:daemon:a", "dst:daemon:b"),
            self.make("x", "dst:daemon:a", "dst:person:a"),
            self.make("x", "dst:daemon:a", "dst:role:view", "dst:role:admin"),
            self.make("x", "dst:daemon:a", "dst:role:god"),
            self.make("x", "dst:daemon:"),
            self.make("x", "dst:daemon:" + "a" * 65),
        ):
            self.assertRaises(BadCertificate, identity_of, made)

    def test_requests(self) -> None:
        """A request gives a key, if whoever made it has that key and it is of the kind that is used."""
        key = make_key()
        self.assertEqual(key.public_key(), request_key(make_request("beta", key)))
        good = make_request("beta", key)
        self.assertRaises(InvalidRequest, request_key, good[:-1])
        self.assertRaises(InvalidRequest, request_key, good[:-5] + bytes([good[-5] ^ 1]) + good[-4:])
        self.assertRaises(InvalidRequest, request_key, b"")
        for other in (ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)):
            made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(other, hashes.SHA256())
            from cryptography.hazmat.primitives.serialization import Encoding

            self.assertRaises(InvalidRequest, request_key, made.public_bytes(Encoding.DER))

    @given(st.binary(max_size=300))
    def test_random_requests(self, data: bytes) -> None:
        """Random bytes are refused and nothing worse."""
        self.assertRaises(InvalidRequest, request_key, data)

    @given(st.text(max_size=80))
    def test_names(self, text: str) -> None:
        """A name is a word that is safe in a path, in a URI and in a log."""
        try:
            check_name(text)
        except InvalidRequest:
            return
        self.assertTrue(text.isascii() and 0 < len(text) <= 64 and not set(text) & set("/\\ \n\0:") and text != "..")

    def test_pem(self) -> None:
        """Several certificates in one file are all read."""
        one, two = self.make("a"), self.make("b")
        self.assertEqual([one, two], x509.load_pem_x509_certificates(certificate_pem(one, two)))
