"""
Values as JSON and back: one converter, for the daemon and for its client.

The keys are the fields of the class.  One that is not known is ignored, so that a newer daemon can say more to an
older client; one that is missing has the default of its field, and is an error where there is none.  Nothing is
taken for what it is not: no number is made of a text, and no text of a number.

L{StatusTree} has words of its own, see L{dst.admin.schema}.
"""

from __future__ import annotations

import math
import typing
from typing import Any, TypeVar

import cattrs
from cattrs.errors import StructureHandlerNotFoundError

from dst.admin.schema import API_VERSION, tree_from_json, tree_to_json
from dst.errors import InvalidRequest, PeerError
from dst.status import StatusTree

__all__ = ["from_json", "to_json"]

T = TypeVar("T")


def _exactly(kind: type) -> Any:
    def structure(value: object, _: type) -> object:
        if type(value) is not kind:
            raise ValueError(f"{value!r:.60} is not {kind.__name__}")
        return value

    return structure


def _number(value: object, _: type) -> float:
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        return float(value)
    raise ValueError(f"{value!r:.60} is not a finite number")


def _as_it_is(value: object, _: type) -> object:
    return value


def _is_tuple(kind: Any) -> bool:
    return typing.get_origin(kind) is tuple


def _tuples(kind: Any, converter: cattrs.Converter) -> Any:
    """Tuples are made of lists, and of nothing else that could be gone through."""
    kinds = typing.get_args(kind)
    any_number = kinds[1:] == (...,)

    def structure(value: object, _: type) -> tuple[object, ...]:
        if not isinstance(value, list):
            raise ValueError(f"{value!r:.60} is not a list")
        if not any_number and len(value) != len(kinds):
            raise ValueError(f"a list of {len(value)}, expected {len(kinds)}")
        expected = [kinds[0]] * len(value) if any_number else kinds
        return tuple(converter.structure(each, one) for each, one in zip(value, expected, strict=True))

    return structure


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(unstruct_collection_overrides={tuple: list})
    for kind in (int, str, bool):
        converter.register_structure_hook(kind, _exactly(kind))
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook_func(lambda kind: kind is object, _as_it_is)
    converter.register_structure_hook_factory(_is_tuple, _tuples)
    converter.register_unstructure_hook(StatusTree, tree_to_json)
    converter.register_structure_hook(StatusTree, lambda value, _: tree_from_json(value))
    return converter


_converter = _make_converter()


def to_json(value: object) -> Any:
    """C{value}, of one of our classes, as what C{json.dumps} takes."""
    return _converter.unstructure(value)


def from_json(value: object, kind: type[T], what: str) -> T:
    """
    The value that L{to_json} was given.

    @param what: what it is, for the error.
    @raise PeerError: it is none.
    """
    if not isinstance(value, dict):
        raise PeerError(f"the daemon's {what} is not a JSON object")
    if value.get("version", API_VERSION) != API_VERSION:
        found = f"{value['version']!r:.40}"
        raise PeerError(f"the daemon speaks version {found} of the interface, this program version {API_VERSION}")
    try:
        return _converter.structure(value, kind)
    except (cattrs.BaseValidationError, InvalidRequest, TypeError, ValueError, KeyError, RecursionError) as error:
        raise PeerError(f"the daemon's {what} cannot be read: {_why(error)}") from error
    except StructureHandlerNotFoundError as error:  # pragma: no cover - a mistake of ours, in a class
        raise AssertionError(str(error)) from error


def _why(error: BaseException) -> str:
    """The first thing that is wrong, not the whole tree of it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{error}"[:200]
