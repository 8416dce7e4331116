"""
The few loops that are worth compiling, each with its equal in Python.

A module here offers names that are either compiled or written in Python, whichever there is; both pass the same
tests, and nobody above can tell them apart but by the time they take.  ``DST_PURE=1`` in the environment chooses
Python throughout; ``dst.native.compiled()`` says which parts are compiled.

What is compiled knows nothing of DST's rules: it cuts frames, copies bytes and makes system calls.
"""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType
from typing import Final

__all__ = ["PARTS", "PURE", "compiled", "load"]

PURE: Final = os.environ.get("DST_PURE", "") not in ("", "0")
"""Python was asked for."""

PARTS: Final = ("_files", "_frames", "_nbd")
"""The compiled modules that there may be."""


def load(part: str) -> ModuleType | None:
    """The compiled module C{part}, or C{None} where it was not built or Python was asked for."""
    assert part in PARTS
    if PURE:
        return None
    try:
        return import_module(f"dst.native.{part}")
    except ImportError:
        return None


def compiled() -> tuple[str, ...]:
    """The parts that are compiled in this process."""
    return tuple(part for part in PARTS if load(part) is not None)
