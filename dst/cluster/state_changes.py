"""
What has happened between two looks at a device, told in sentences.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from dst.explaining_trees import summary_of
from dst.status import MemberState, StatusTree
from dst.words import size_in_words

__all__ = ["StateChange", "changes_between"]


@frozen
class StateChange:
    """In the words of L{dst.administration.Event}."""

    kind: str
    subject: str
    sentence: str


def changes_between(before: StatusTree, after: StatusTree) -> Iterator[StateChange]:
    """
    What is different in C{after}: of the device itself, and of its members.  What is below a member is not looked at.
    """
    name = after.name
    if (before.detail.get("role"), before.detail.get("owner")) != (
        after.detail.get("role"),
        after.detail.get("owner"),
    ):
        yield StateChange("ownership", name, _ownership(after))
    if (before.health, before.state) != (after.health, after.state):
        yield StateChange("state", name, summary_of(after))
    if before.size and after.size and before.size != after.size:
        yield StateChange("state", name, f"{name} has {size_in_words(after.size)} now, and had {_had(before)}")
    members = {child.name: child for child in before.children}
    for child in after.children:
        earlier = members.pop(child.name, None)
        yield from _of_member(name, earlier, child)
    for gone in members:
        if before.detail or before.children:
            yield StateChange("state", f"{name}/{gone}", f"{gone} is no member of {name} any more")


def _of_member(storage: str, before: StatusTree | None, after: StatusTree) -> Iterator[StateChange]:
    subject = f"{storage}/{after.name}"
    because = f": {after.reason}" if after.reason else ""
    if before is None:
        yield StateChange("state", subject, f"{after.name} is a member of {storage} now, and {after.state}{because}")
    elif before.state != after.state:
        yield StateChange("state", subject, f"{after.name} of {storage} is {after.state}{because}")
    if after.state == MemberState.RESYNCING.value and after.resync is not None:
        earlier = before.resync if before is not None else None
        began = earlier is None or (earlier.kind, earlier.cause) != (after.resync.kind, after.resync.cause)
        if began:
            yield StateChange(
                "resync",
                subject,
                f"a {after.resync.kind} resync of {after.name} of {storage} has begun, because {after.resync.cause}: "
                f"{size_in_words(after.resync.bytes_total)} to look at",
            )


def _ownership(tree: StatusTree) -> str:
    role, owner = tree.detail.get("role"), tree.detail.get("owner")
    if role == "owner":
        return f"this daemon owns {tree.name}"
    if role == "standby":
        return f"this daemon stands by for {tree.name}" + (f", which {owner} owns" if owner else "")
    return f"this daemon does not own {tree.name}" + (f"; {owner} does" if owner else "")


def _had(tree: StatusTree) -> str:
    return size_in_words(tree.size)
