"""
Explanations and the history of resyncs as the REST interface says them: version 1.

C{GET /v1/explain} and C{GET /v1/explain/NAME} answer::

    {"version": 1, "time": 1700000000.0, "explanations": [EXPLANATION, ...]}

C{GET /v1/storages/NAME/resyncs} answers C{{"version": 1, "time": ..., "resyncs": [RESYNC, ...]}}. The keys of an
EXPLANATION and a RESYNC are the fields of L{dst.explaining.Explanation} and L{dst.explaining.ResyncRecord}.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import cattrs

from dst.errors import PeerError
from dst.explaining import Explanation, ResyncRecord, ScrubRecord

__all__ = [
    "explanations_from_envelope",
    "explanations_to_envelope",
    "resyncs_from_envelope",
    "resyncs_to_envelope",
    "scrubs_to_envelope",
]

_VERSION = 1

_converter = cattrs.Converter()

T = TypeVar("T")


def explanations_to_envelope(explanations: Iterable[Explanation], now: float) -> dict[str, object]:
    """The answer to C{GET /v1/explain}."""
    return _envelope("explanations", explanations, now)


def explanations_from_envelope(value: object) -> list[Explanation]:
    """
    What L{explanations_to_envelope} was made of.

    @raise PeerError: it is no such envelope.
    """
    return _entries(value, "explanations", Explanation)


def resyncs_to_envelope(resyncs: Iterable[ResyncRecord], now: float) -> dict[str, object]:
    """The answer to C{GET /v1/storages/NAME/resyncs}."""
    return _envelope("resyncs", resyncs, now)


def resyncs_from_envelope(value: object) -> list[ResyncRecord]:
    """
    What L{resyncs_to_envelope} was made of.

    @raise PeerError: it is no such envelope.
    """
    return _entries(value, "resyncs", ResyncRecord)


def scrubs_to_envelope(scrubs: Iterable[ScrubRecord], now: float) -> dict[str, object]:
    """The answer to C{GET /v1/storages/NAME/scrubs}."""
    return _envelope("scrubs", scrubs, now)


def _envelope(key: str, entries: Iterable[object], now: float) -> dict[str, object]:
    return {"version": _VERSION, "time": now, key: [_converter.unstructure(entry) for entry in entries]}


def _entries(value: Any, key: str, kind: type[T]) -> list[T]:
    if not isinstance(value, dict) or value.get("version") != _VERSION or not isinstance(value.get(key), list):
        raise PeerError(f"the daemon's answer is not version {_VERSION} of a list of {key}")
    try:
        return [_converter.structure(entry, kind) for entry in value[key]]
    except (cattrs.BaseValidationError, TypeError, ValueError, KeyError, RecursionError) as error:
        raise PeerError(f"the daemon's {key} cannot be read: {str(error)[:200]}") from error
