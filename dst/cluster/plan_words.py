"""
What a person is told of the steps of a plan.
"""

from __future__ import annotations

from collections.abc import Sequence

from dst.cluster.topology import ExportSpec

__all__ = ["added_member", "changed_export", "in_words", "removed_export", "removed_member", "replaced_member"]


def in_words(names: Sequence[str]) -> str:
    """C{a, b and c}; C{""} for none."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _clients(count: int) -> str:
    if not count:
        return ""
    return f"; {count} client{'s are' if count > 1 else ' is'} cut off"


def removed_export(spec: ExportSpec, wanted: ExportSpec | None, clients: int) -> str:
    """It goes, for good or to come back with another device."""
    how = "is exported no more" if wanted is None else f"is exported no more before it is {wanted.device}"
    return f"{spec.name} {how}{_clients(clients)}"


def changed_export(before: ExportSpec, spec: ExportSpec, clients: int) -> str:
    """It stays, and what clients may do changes."""
    changes = []
    if before.read_only != spec.read_only:
        changes.append("read-only" if spec.read_only else "writable")
    if before.allow != spec.allow:
        if spec.allow is None:
            changes.append("open to this machine only")
        elif not spec.allow:
            changes.append("open to nobody")
        else:
            rules = "one rule" if len(spec.allow) == 1 else f"{len(spec.allow)} rules"
            changes.append(f"open to those whom its access list names ({rules})")
    again = " and may come again" if clients else ""
    return f"export {spec.name} becomes {' and '.join(changes)}{_clients(clients)}{again}"


def added_member(storage: str, node: str, size: int) -> str:
    """A mirror gets one copy more."""
    return f"{node} becomes a member of {storage}: what it holds is overwritten, {_bytes(size)} are copied to it"


def removed_member(storage: str, node: str, left: int, before: int) -> str:
    """A mirror has one member less."""
    lower = f", which has {left} then" if left < before else ""
    return f"{node} leaves {storage}{lower}; what it holds stays there, and is not used there again"


def replaced_member(storage: str, node: str, uri: str, size: int) -> str:
    """Another medium under the same name."""
    return (
        f"{node} of {storage} becomes {uri}: what that holds is overwritten, the old copy leaves first, and "
        f"redundancy is lower until {_bytes(size)} are copied; a node with a name of its own is added before"
    )


def _bytes(size: int) -> str:
    return f"{size} bytes" if size else "all"
