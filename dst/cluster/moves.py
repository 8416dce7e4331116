"""
One step from what runs to what is wanted, as a value: what is done, and what it makes of the configuration.

A configuration is changed in steps, and after each of them the file is one that a daemon could start with.  So each
step carries the edits that it makes in the document.  What is added is written down before it is done: a storage must
never depend on a node that a restart would not know.  What is removed is written down after it was done, for the same
reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from attrs import field, frozen

from dst.administration import PlanStep
from dst.cluster.document import Document
from dst.cluster.listening import ListenerSpec

__all__ = ["GONE", "Edit", "Move", "edited"]


class _Gone:
    def __repr__(self) -> str:
        return "GONE"


GONE: Final = _Gone()
"""The value of what is not there."""


@frozen
class Edit:
    """
    The value at one place of a document.

    @ivar value: a plain value, or L{GONE}.
    """

    place: tuple[str, ...]
    value: object


@frozen
class Move:
    """
    One step.

    @ivar step: what a person is told of it.
    @ivar edits: what it changes in the document.
    @ivar keep_first: the document is kept before the step is done.
    @ivar name: the device or export it is about.
    @ivar storage: whose member that is.
    @ivar listener: what is opened or closed.
    @ivar wait: the new member has to be in sync before the next step, because that takes a copy away.
    """

    step: PlanStep
    edits: tuple[Edit, ...]
    keep_first: bool = True
    name: str = ""
    storage: str = ""
    listener: ListenerSpec | None = None
    wait: bool = field(default=False)

    @property
    def live(self) -> bool:
        """It is done while the daemon runs."""
        return not self.step.after_restart


def edited(document: Document, edits: Iterable[Edit]) -> Document:
    """
    C{document} with C{edits} made; the one that was given stays as it is.  Tables that become empty go.
    """
    result = document
    for edit in edits:
        changed = _with(result, edit.place, edit.value)
        assert isinstance(changed, dict)
        result = changed
    return result


def _with(table: object, place: tuple[str, ...], value: object) -> object:
    changed = dict(table) if isinstance(table, dict) else {}
    key, below = place[0], place[1:]
    if below:
        value = _with(changed.get(key, {}), below, value)
        if value == {}:
            value = GONE
    if value is GONE:
        changed.pop(key, None)
    else:
        changed[key] = value
    return changed
