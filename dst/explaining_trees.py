"""
Explanations of what only a status tree is known of, and how explanations travel in status trees.

Storages explain themselves.  Plain nodes need not: the states of a link are few, and what follows from each is the
same for all of them.  What is behind a remote node is explained by the daemon it belongs to: its explanation comes
along in the C{detail} of the status tree, under L{CARRIED}, and is unpacked here.
"""

from __future__ import annotations

from attrs import evolve, frozen

from dst.explaining import Explanation
from dst.interfaces import IAlgorithm, INode
from dst.status import Health, LinkState, MemberState, StatusTree
from dst.words import size_in_words

__all__ = [
    "CARRIED",
    "NOBODY",
    "NODE_BACK_S_MAX",
    "carry",
    "explain_node",
    "explain_tree",
    "explained_status",
    "from_below",
    "summary_of",
]

CARRIED = "explained"
"""The key in the C{detail} of a status tree under which its explanation travels."""

NODE_BACK_S_MAX = 10.0
"""A node that can be reached again is used within this: the longest pause between two attempts, and one attempt."""

NOBODY = "nothing is done without a person"
"""The next step where there is none."""

_TEXTS_MAX = 24
"""Sentences of each kind that travel: nobody reads more."""

_MEMBER_STATES = frozenset(state.value for state in MemberState)
_NODE_KINDS = frozenset({"file", "memory", "slice", "remote", "nbd"})


@frozen
class _Words:
    next_step: str
    condition: str = ""
    within_s: float | None = None
    advice: tuple[str, ...] = ()


_LOOK_AT = {
    "file": "look at the path, its permissions and the system's log: does the file or disk exist, and is it healthy?",
    "remote": "look whether the daemon at that address runs and can be reached: `dst --url ... status` asks it",
    "nbd": "look whether the NBD server at that address runs and can be reached, as with `nbdinfo`",
    "slice": "look at the device that it is a slice of; it comes and goes with that",
}

_REACHED = {
    "file": "the file or disk can be opened",
    "remote": "its daemon can be reached and serves the export",
    "nbd": "its server can be reached and serves the export",
    "slice": "the device that it is a slice of can be used",
}


def explain_node(node: INode) -> Explanation:
    """The explanation of any node: its own if it is a storage."""
    explanation: Explanation = node.explain() if IAlgorithm.providedBy(node) else explain_tree(node.status())
    return explanation


def explain_tree(tree: StatusTree) -> Explanation:
    """What C{tree} says, as an explanation: all of it that its own daemon has explained, the usual of the rest."""
    children = tuple(explain_tree(child) for child in tree.children)
    carried = tree.detail.get(CARRIED)
    explanation = Explanation(
        name=tree.name,
        kind=tree.kind,
        health=tree.health,
        state=tree.state,
        since=tree.since,
        summary=summary_of(tree),
        evidence=_evidence(tree),
        children=children,
    )
    if isinstance(carried, dict):
        return _unpack(explanation, carried)
    words = _words(tree)
    if words is None:
        return from_below(explanation) if tree.health is not Health.HEALTHY else explanation
    return evolve(
        explanation,
        next_step=words.next_step,
        condition=words.condition,
        within_s=words.within_s,
        advice=words.advice,
    )


def from_below(explanation: Explanation) -> Explanation:
    """C{explanation} with the next step that those of its children lead to."""
    troubled = [child for child in explanation.children if not _is_well(child)]
    if not troubled:
        return evolve(
            explanation,
            next_step="it is looked at again by itself",
            condition="what the sentence above names has ended",
            within_s=NODE_BACK_S_MAX,
        )
    acting = [child for child in troubled if child.next_step != NOBODY]
    if not acting:
        names = ", ".join(child.name for child in troubled)
        advice = (*explanation.advice, f"see below what can be done about {names}")
        return evolve(explanation, next_step=NOBODY, advice=advice)
    times = [child.within_s for child in acting]
    conditions = [f"{child.name}: {child.condition}" for child in acting if child.condition]
    return evolve(
        explanation,
        next_step="; ".join(f"{child.name}: {child.next_step}" for child in acting),
        condition="; ".join(conditions),
        within_s=None if None in times else max(time for time in times if time is not None),
    )


def _is_well(explanation: Explanation) -> bool:
    return explanation.health is Health.HEALTHY and not explanation.next_step


def summary_of(tree: StatusTree) -> str:
    """How it is and why, in one sentence."""
    word = tree.state
    if tree.state not in _MEMBER_STATES and tree.children and tree.kind not in _NODE_KINDS:
        word = tree.health.value
    elif tree.state == MemberState.IN_SYNC.value and tree.health is not Health.HEALTHY:
        word = f"{tree.state}, and {tree.health.value}"
    return f"{tree.name} is {word}" + (f": {tree.reason}" if tree.reason else "")


def _evidence(tree: StatusTree) -> tuple[str, ...]:
    facts = [f"a {tree.kind}" + (f" of {size_in_words(tree.size)}" if tree.size else ", never seen ready")]
    address = tree.detail.get("address")
    export = tree.detail.get("export")
    if isinstance(address, str) and address:
        facts.append(f"its address is {address}" + (f", the export {export}" if isinstance(export, str) else ""))
    link = tree.detail.get("link")
    if isinstance(link, str):
        facts.append(f"its link is {link}")
    if tree.dirty_bytes:
        facts.append(f"{size_in_words(tree.dirty_bytes)} are not the same everywhere")
    if tree.resync is not None:
        facts.append(
            f"{tree.resync.kind} resync: {size_in_words(tree.resync.bytes_left)} of "
            f"{size_in_words(tree.resync.bytes_total)} left, {size_in_words(tree.resync.bytes_copied)} sent"
        )
    return tuple(facts)


def _words(tree: StatusTree) -> _Words | None:
    """What follows from the state alone; C{None} where it is for those below to say, or there is nothing to say."""
    if tree.state in _MEMBER_STATES:
        return _member_words(tree)
    if tree.children and tree.kind not in _NODE_KINDS:
        return None
    reached = _REACHED.get(tree.kind, "it can be reached")
    advice = (_LOOK_AT[tree.kind],) if tree.kind in _LOOK_AT else ()
    if tree.state == LinkState.CONNECTING.value:
        return _Words("it is opened, and tried again for as long as it takes", reached, NODE_BACK_S_MAX, advice)
    if tree.state == LinkState.INTERRUPTED.value:
        return _Words(
            "what was asked of it is sent again when it is back, and fails if that takes too long",
            reached,
            NODE_BACK_S_MAX,
            advice,
        )
    if tree.state == LinkState.AWAY.value:
        return _Words("it is tried again, for ever, and used when it is back", reached, NODE_BACK_S_MAX, advice)
    if tree.state == LinkState.CLOSED.value:
        return _Words(NOBODY, advice=("start the daemon again; it was closed",))
    return None


def _member_words(tree: StatusTree) -> _Words | None:
    if tree.state == MemberState.RESYNCING.value and tree.resync is not None:
        return _Words("it becomes in-sync when everything is copied", tree.resync.stalled, tree.resync.seconds_left)
    if tree.state == MemberState.RESYNCING.value:
        return _Words("it becomes in-sync when everything is copied")
    if tree.state == MemberState.SUSPENDED.value:
        return _Words(NOBODY, advice=(f"`dst resume STORAGE {tree.name}` uses it again; what it missed is copied",))
    if tree.state == MemberState.REFUSED.value:
        return _Words(
            NOBODY,
            advice=(
                f"bring the right media, or `dst replace STORAGE {tree.name} URI` puts other media at its place",
            ),
        )
    if tree.state == MemberState.ABSENT.value:
        reached = _REACHED.get(tree.kind, "it can be reached")
        advice = (_LOOK_AT[tree.kind],) if tree.kind in _LOOK_AT else ()
        return _Words(
            "it is tried again, for ever, and used again when it is back",
            reached,
            NODE_BACK_S_MAX,
            advice,
        )
    return None


# -- travelling ---------------------------------------------------------------


def explained_status(node: INode) -> StatusTree:
    """The status of C{node} for another daemon: with what explains it."""
    tree = node.status()
    return carry(tree, node.explain()) if IAlgorithm.providedBy(node) else tree


def carry(tree: StatusTree, explanation: Explanation) -> StatusTree:
    """C{tree} with what explains it, and every entry below, in its C{detail}."""
    children = tree.children
    if len(children) == len(explanation.children):
        children = tuple(
            carry(child, each) if child.name == each.name else child
            for child, each in zip(children, explanation.children, strict=True)
        )
    if _is_well(explanation):
        return evolve(tree, children=children)
    packed: dict[str, object] = {
        "summary": explanation.summary,
        "row": explanation.row,
        "evidence": list(explanation.evidence[:_TEXTS_MAX]),
        "next_step": explanation.next_step,
        "condition": explanation.condition,
        "within_s": explanation.within_s,
        "advice": list(explanation.advice[:_TEXTS_MAX]),
    }
    return evolve(tree, detail={CARRIED: packed, **tree.detail}, children=children)


def _unpack(explanation: Explanation, carried: dict[str, object]) -> Explanation:
    """It comes from another daemon: what is not as it should be is left out."""
    within_s = carried.get("within_s")
    return evolve(
        explanation,
        summary=_text(carried, "summary") or explanation.summary,
        row=_text(carried, "row"),
        evidence=_texts(carried, "evidence") or explanation.evidence,
        next_step=_text(carried, "next_step"),
        condition=_text(carried, "condition"),
        within_s=float(within_s) if isinstance(within_s, int | float) and within_s >= 0 else None,
        advice=_texts(carried, "advice"),
    )


def _text(carried: dict[str, object], key: str) -> str:
    value = carried.get(key)
    return value if isinstance(value, str) else ""


def _texts(carried: dict[str, object], key: str) -> tuple[str, ...]:
    value = carried.get(key)
    return tuple(text for text in value if isinstance(text, str))[:_TEXTS_MAX] if isinstance(value, list) else ()
