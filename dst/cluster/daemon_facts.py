"""
What there is to know about the daemon itself, for L{dst.health}.
"""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

from cryptography.x509 import Certificate

from dst.cluster.listing import list_listeners
from dst.health import CertificateFacts, DaemonFacts

if TYPE_CHECKING:
    from dst.cluster.assembly import Cluster
    from dst.security.security import Security

__all__ = ["daemon_facts", "open_files"]


def daemon_facts(cluster: Cluster, now: float) -> DaemonFacts:
    """
    What is known now; what cannot be known is left out.

    @param now: seconds of the epoch.
    """
    count, most = open_files()
    security = cluster.security
    return DaemonFacts(
        now=now,
        listeners=tuple(list_listeners(cluster)),
        certificates=_certificates(security),
        not_saved=cluster.changing.not_saved,
        after_restart=cluster.changing.after_restart,
        certificates_unused="" if security is None else security.problem,
        state_dir=cluster.state_path or "",
        state_bytes_free=_free_bytes(cluster.state_path),
        open_files=count,
        open_files_max=most,
    )


def open_files() -> tuple[int, int]:
    """How many descriptors this process has, and how many it may have; 0 where that is not known."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        return len(os.listdir("/proc/self/fd")), 0 if most == resource.RLIM_INFINITY else most
    except OSError:
        return 0, 0


def _free_bytes(path: str | None) -> int | None:
    if path is None:
        return None
    try:
        room = os.statvfs(path)
    except OSError:
        return None  # a simulated directory, or one that is gone: those who write to it say so
    return room.f_bavail * room.f_frsize


def _certificates(security: Security | None) -> tuple[CertificateFacts, ...]:
    if security is None:
        return ()
    credentials = security.credentials
    own = _facts_of(f"of {credentials.holder.name}", credentials.certificate)
    return (own, *(_facts_of(f"of the authority {_name(each)}", each) for each in credentials.trusted))


def _facts_of(name: str, certificate: Certificate) -> CertificateFacts:
    return CertificateFacts(
        name, certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    )


def _name(certificate: Certificate) -> str:
    return certificate.subject.rfc4514_string()[:80]
