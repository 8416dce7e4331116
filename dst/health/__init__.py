"""
What is not as it should be, by codes that do not change: the table, what raises them, and for how long.

Nothing here acts: status trees and a few facts go in, findings come out.
"""

from dst.health.codes import CODES, HealthCode, code_named
from dst.health.findings import CertificateFacts, DaemonFacts, daemon_findings, device_findings
from dst.health.steady import Change, Steady

__all__ = [
    "CODES",
    "CertificateFacts",
    "Change",
    "DaemonFacts",
    "HealthCode",
    "Steady",
    "code_named",
    "daemon_findings",
    "device_findings",
]
