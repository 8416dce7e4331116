"""
What follows from what is found on media, as data: three tables, and the pure functions that read them.

A verdict names the row that decided; it is logged, kept and shown to people.
Rows are tried from the top, the first whose condition holds decides.
No row ever makes a choice that only a person can make: nothing is overwritten
that belongs to another storage or that might be somebody's data.

  - C{claim_rows}: may this daemon own the storage?
  - C{assembly_rows}: how does it start?
  - C{member_rows}: what is media at a member's place in a storage that runs?
"""

from __future__ import annotations

from dst.label.assembly_rows import ASSEMBLY_ROWS, AssemblyStep, AssemblyVerdict, judge_assembly
from dst.label.claim_rows import CLAIM_ROWS, ClaimStep, ClaimVerdict, judge_claim
from dst.label.evidence import AssemblyInputs
from dst.label.member_rows import MEMBER_ROWS, MemberInputs, MemberStep, MemberVerdict, judge_member

__all__ = [
    "ASSEMBLY_ROWS",
    "CLAIM_ROWS",
    "MEMBER_ROWS",
    "AssemblyInputs",
    "AssemblyStep",
    "AssemblyVerdict",
    "ClaimStep",
    "ClaimVerdict",
    "MemberInputs",
    "MemberStep",
    "MemberVerdict",
    "judge_assembly",
    "judge_claim",
    "judge_member",
]
