"""
Explanations and the histories of resyncs and scrubs as the REST interface says them, for those who print them.

The answers are those of L{dst.admin.routes.shapes}; the keys of each entry are the fields of its class in
L{dst.explaining}.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dst.admin.codec import from_json, to_json
from dst.admin.routes.shapes import Explanations, Resyncs, Scrubs
from dst.admin.schema import API_VERSION
from dst.explaining import Explanation, ResyncRecord, ScrubRecord

__all__ = [
    "explanations_from_envelope",
    "explanations_to_envelope",
    "resyncs_from_envelope",
    "resyncs_to_envelope",
    "scrubs_to_envelope",
]


def explanations_to_envelope(explanations: Iterable[Explanation], now: float) -> dict[str, Any]:
    """The answer to C{GET /v1/explain}."""
    return _envelope(Explanations(API_VERSION, now, tuple(explanations)))


def explanations_from_envelope(value: object) -> list[Explanation]:
    """
    What L{explanations_to_envelope} was made of.

    @raise PeerError: it is no such envelope.
    """
    return list(from_json(value, Explanations, "explanations").explanations)


def resyncs_to_envelope(resyncs: Iterable[ResyncRecord], now: float) -> dict[str, Any]:
    """The answer to C{GET /v1/storages/NAME/resyncs}."""
    return _envelope(Resyncs(API_VERSION, now, tuple(resyncs)))


def resyncs_from_envelope(value: object) -> list[ResyncRecord]:
    """
    What L{resyncs_to_envelope} was made of.

    @raise PeerError: it is no such envelope.
    """
    return list(from_json(value, Resyncs, "resyncs").resyncs)


def scrubs_to_envelope(scrubs: Iterable[ScrubRecord], now: float) -> dict[str, Any]:
    """The answer to C{GET /v1/storages/NAME/scrubs}."""
    return _envelope(Scrubs(API_VERSION, now, tuple(scrubs)))


def _envelope(answer: object) -> dict[str, Any]:
    envelope: dict[str, Any] = to_json(answer)
    return envelope
