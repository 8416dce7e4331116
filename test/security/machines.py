"""Machines with certificates, for tests: made with the same code that makes them for people."""

from __future__ import annotations

import os
import time
from typing import Any

from cryptography import x509
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from dst.identity import Role
from dst.security.authority import Authority
from dst.security.certificates import Kind
from dst.security.identity_files import write_identity
from dst.security.making import Wanted, make_key
from dst.security.security import Security
from dst.surroundings import REAL, ISurroundings


@implementer(ISurroundings)
class World(Clock):
    """A clock whose calendar begins today."""

    state_files = None

    def __init__(self) -> None:
        super().__init__()
        self.began = time.time()
        self.entropy = REAL.entropy
        self.random = REAL.random
        self.boot_clock_s = self.seconds

    def wall_clock_s(self) -> float:
        """Seconds of the epoch."""
        return self.began + self.seconds()


class Machines:
    """
    An authority and the security directories of several machines, below one directory.

    @ivar moment: what the authority takes for now.
    """

    def __init__(self, root: str, name: str = "authority") -> None:
        self.root = os.path.abspath(root)
        self.moment = time.time()
        self.authority = Authority(os.path.join(self.root, name), lambda: self.moment)
        self.authority.create(name)

    def path(self, name: str) -> str:
        """The security directory of a machine."""
        return os.path.join(self.root, name)

    def add(
        self,
        name: str,
        *,
        kind: Kind = Kind.DAEMON,
        role: Role | None = None,
        addresses: tuple[str, ...] = (),
        days: float = 365,
        again: bool = False,
    ) -> x509.Certificate:
        """A machine gets a certificate."""
        key = make_key()
        certificate = self.authority.sign(Wanted(name, kind, role, addresses, days), key.public_key(), again=again)
        write_identity(
            self.path(name), key, certificate, self.authority.trusted_pem(), self.authority.revocations_pem()
        )
        return certificate

    def copy(self, what: str, name: str) -> None:
        """Copy a file of the authority to a machine, as a person would."""
        with open(os.path.join(self.authority.directory, what), "rb") as source:
            data = source.read()
        with open(os.path.join(self.path(name), what), "wb") as target:
            target.write(data)

    def security(self, name: str, clock: Any) -> Security:
        """A daemon's."""
        return Security(self.path(name), clock)


def with_tls(options: Any, is_client: bool, factory: Any, clock: Any) -> TLSMemoryBIOFactory:
    """C{factory} behind TLS."""
    return TLSMemoryBIOFactory(options, is_client, factory, clock)
