"""
JSON schemas made of classes: what L{dst.admin.codec} says of a value of them.

The words come from the class's own documentation, so a field is described once.
"""

from __future__ import annotations

import enum
import inspect
import re
import types
import typing
from collections.abc import Mapping
from typing import Any

import attrs

from dst.status import ResyncProgress, StatusTree

__all__ = ["Schemas", "plain_words"]

_SIMPLE: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    object: {},
}

_RENAMED = {(StatusTree, "children"): "members"}
"""Fields that have another name in JSON, see L{dst.admin.schema}."""

_WORKED_OUT: dict[type, dict[str, dict[str, Any]]] = {
    ResyncProgress: {
        "percent": {"type": "number", "description": "How much of bytes_total is done."},
        "seconds_left": {
            "anyOf": [{"type": "number"}, {"type": "null"}],
            "description": "An honest estimate; null while there is no rate to base one on.",
        },
    }
}
"""What JSON has besides the fields."""

_NAMES: dict[type, str] = {StatusTree: "Tree", ResyncProgress: "Resync"}

_MARKUP = re.compile(r"[A-Z]\{([^{}]*)\}")
_IVAR = re.compile(r"@ivar (\w+):\s*(.*?)(?=\n\s*@ivar |\n\s*\n|\Z)", re.DOTALL)


def plain_words(text: str) -> str:
    """Documentation without its markup, on one line."""
    previous = None
    while text != previous:
        previous, text = text, _MARKUP.sub(r"\1", text)
    return re.sub(r"\s+", " ", text).strip()


class Schemas:
    """
    The schemas of classes, and of those they refer to.

    @ivar components: by name, as C{components/schemas} of an OpenAPI document has them.
    """

    def __init__(self) -> None:
        self.components: dict[str, dict[str, Any]] = {}

    def of(self, kind: Any) -> dict[str, Any]:
        """
        The schema of a type.

        @raise TypeError: it is none that the codec knows.
        """
        if isinstance(kind, Mapping):
            return dict(kind)
        if kind in _SIMPLE:
            return dict(_SIMPLE[kind])
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin in (typing.Union, types.UnionType):
            return {"anyOf": [self.of(each) if each is not type(None) else {"type": "null"} for each in arguments]}
        if origin in (tuple, list) and (origin is list or arguments[1:] == (...,)):
            return {"type": "array", "items": self.of(arguments[0])}
        if origin is tuple:
            items = [self.of(each) for each in arguments]
            return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
        if origin is dict and arguments[0] is str:
            return {"type": "object", "additionalProperties": self.of(arguments[1]) or True}
        if kind is dict:
            return {"type": "object"}
        if isinstance(kind, type) and (issubclass(kind, enum.Enum) or attrs.has(kind)):
            return self._reference(kind)
        raise TypeError(f"{kind} has no schema")

    def _reference(self, kind: type) -> dict[str, Any]:
        name = _NAMES.get(kind, kind.__name__)
        if name not in self.components:
            self.components[name] = {}  # it may refer to itself
            self.components[name] = self._enum(kind) if issubclass(kind, enum.Enum) else self._class(kind)
        return {"$ref": f"#/components/schemas/{name}"}

    def _enum(self, kind: type[enum.Enum]) -> dict[str, Any]:
        return {"type": "string", "enum": [each.value for each in kind], "description": _about(kind)}

    def _class(self, kind: Any) -> dict[str, Any]:
        hints = typing.get_type_hints(kind)
        words = {name: plain_words(text) for name, text in _IVAR.findall(inspect.getdoc(kind) or "")}
        properties: dict[str, dict[str, Any]] = {}
        for field in attrs.fields(kind):
            schema = self.of(hints[field.name])
            if field.name in words:
                schema["description"] = words[field.name]
            properties[_RENAMED.get((kind, field.name), field.name)] = schema
        properties |= _WORKED_OUT.get(kind, {})
        return {
            "type": "object",
            "description": _about(kind),
            "properties": properties,
            "required": sorted(properties),
        }


def _about(kind: type) -> str:
    return plain_words((inspect.getdoc(kind) or "").partition("@ivar")[0])
