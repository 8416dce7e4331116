"""
Why a linear or a stripe is as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from dst.algorithms.explained import advice_for, identity_in_words, label_in_words
from dst.explaining import Explanation
from dst.explaining_trees import NOBODY, NODE_BACK_S_MAX, explain_node, explain_tree, from_below, summary_of
from dst.status import Health, LinkState, StatusTree

if TYPE_CHECKING:
    from dst.algorithms.joined_places import Place, PlacedStorage

__all__ = ["explain_joined"]


def explain_joined(storage: PlacedStorage) -> Explanation:
    """See L{IAlgorithm.explain}."""
    tree = storage.status()
    members = tuple(
        _explain_member(storage, place, child) for place, child in zip(storage.places, tree.children, strict=True)
    )
    present = sum(place.present for place in storage.places)
    evidence = [
        f"{present} of its {len(members)} members are at their places; each holds another part, so all are needed"
    ]
    if storage.known_label is not None:
        evidence.append(f"its identity is {identity_in_words(storage.known_label.storage_id)}")
    explanation = evolve(
        explain_tree(evolve(tree, children=())), summary=summary_of(tree), evidence=tuple(evidence), children=members
    )
    if tree.health is Health.HEALTHY:
        return evolve(explanation, next_step="", condition="", within_s=None)
    if storage.link is LinkState.CLOSED:
        return evolve(explanation, next_step=NOBODY, advice=("start the daemon again; it was closed",))
    if storage.waits_for_a_person:
        return evolve(
            explanation,
            next_step=NOBODY,
            condition="a person says that what the members hold may be lost",
            within_s=None,
            advice=(f"`dst init {storage.name} --discard` makes a new storage: what its members hold is lost",),
        )
    all_there = all(place.node.link is LinkState.READY for place in storage.places)
    if storage.known_label is None and all_there and not storage.looks_again:
        return evolve(
            explanation,
            next_step=NOBODY,
            condition="what the sentence above names is corrected",
            within_s=None,
            advice=("correct the topology, or bring the right media; nothing was overwritten",),
        )
    explanation = from_below(explanation)
    left_s = storage.freeze_s_left
    if left_s is not None:
        waiting = f"operations that wait fail with an error in {left_s:.0f} s if they still wait then"
        explanation = evolve(explanation, evidence=(*explanation.evidence, waiting))
    return explanation


def _explain_member(storage: PlacedStorage, place: Place, tree: StatusTree) -> Explanation:
    below = explain_node(place.node)
    explanation = evolve(
        below,
        state=tree.state,
        since=tree.since,
        evidence=(*below.evidence, label_in_words(place.found, storage.known_label)),
    )
    if place.present:
        return explanation
    sentence = f"{tree.name} is {tree.state}" + (f": {tree.reason}" if tree.reason else "")
    if place.refused:
        row = place.row
        advice = (
            ("two members stand at each other's place: correct their order in the topology",)
            if row == "another-place"
            else advice_for(row, storage.name, tree.name)
        )
        return evolve(
            explanation,
            health=Health.FAILED,
            summary=sentence,
            row=row,
            next_step=NOBODY,
            condition="other media stands at its place",
            within_s=None,
            advice=advice,
        )
    if place.node.link is LinkState.READY:
        return evolve(
            explanation,
            health=Health.FAILED,
            summary=sentence,
            next_step="it is looked at again by itself, and used when its label says that it belongs there",
            condition="" if storage.known_label is not None else "all members are present",
            within_s=NODE_BACK_S_MAX,
        )
    return evolve(explanation, health=Health.FAILED, summary=sentence)
