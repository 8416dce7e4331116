"""
The options of a storage, taken from plain values with an error that says what was expected.
"""

from __future__ import annotations

from dst.errors import ConfigurationError
from dst.geometry import parse_size

__all__ = ["Options"]

_NOTHING = object()


class Options:
    """
    Takes options out of a table; what is left at the end is unknown.
    """

    def __init__(self, where: str, table: dict[str, object]) -> None:
        self._where = where
        self._left = dict(table)
        self._known: list[str] = []

    def _take(self, key: str, default: object) -> object:
        self._known.append(key)
        return self._left.pop(key, default)

    def _wrong(self, key: str, found: object, expected: str) -> ConfigurationError:
        return ConfigurationError(f"{self._where}: {key} = {found!r}, expected {expected}")

    def choice(self, key: str, default: str, words: tuple[str, ...]) -> str:
        """One of some words."""
        found = self._take(key, default)
        if not isinstance(found, str) or found not in words:
            raise self._wrong(key, found, " or ".join(f'"{word}"' for word in words))
        return found

    def integer(self, key: str, default: int, least: int, most: int) -> int:
        """A whole number; a default below C{least} cannot be asked for: it means that nothing was said."""
        found = self._take(key, _NOTHING)
        if found is _NOTHING:
            return default
        if isinstance(found, bool) or not isinstance(found, int) or not least <= found <= most:
            raise self._wrong(key, found, f"a whole number from {least} to {most}")
        return found

    def seconds(self, key: str, default: float) -> float:
        """A time."""
        found = self._take(key, default)
        if isinstance(found, bool) or not isinstance(found, (int, float)) or not 0 <= found <= 86400:
            raise self._wrong(key, found, "seconds, from 0 to 86400")
        return float(found)

    def days(self, key: str, default: float) -> float:
        """A long time."""
        found = self._take(key, default)
        if isinstance(found, bool) or not isinstance(found, (int, float)) or not 0 <= found <= 3650:
            raise self._wrong(key, found, "days, from 0 (never) to 3650")
        return float(found)

    def share(self, key: str, default: float) -> float:
        """A part of a whole."""
        found = self._take(key, default)
        if isinstance(found, bool) or not isinstance(found, (int, float)) or not 0.01 <= found <= 1:
            raise self._wrong(key, found, "a share, from 0.01 to 1")
        return float(found)

    def power_of_two(self, key: str, default: int, least: int, most: int) -> int:
        """A size: a number of bytes or a text like "64K"."""
        found = self._take(key, default)
        if found == default:
            return default
        expected = f"a power of two from {least} to {most} bytes"
        try:
            size = parse_size(str(found)) if isinstance(found, (str, int)) and not isinstance(found, bool) else -1
        except ValueError as error:
            raise self._wrong(key, found, expected) from error
        if not least <= size <= most or size & (size - 1):
            raise self._wrong(key, found, expected)
        return size

    def count(self, nodes: int, least: int, most: int) -> None:
        """The number of nodes."""
        if not least <= nodes <= most:
            raise ConfigurationError(f"{self._where} has {nodes} nodes, expected {least} to {most}")

    def boolean(self, key: str, default: bool) -> bool:
        """Yes or no."""
        found = self._take(key, default)
        if not isinstance(found, bool):
            raise self._wrong(key, found, "true or false")
        return found

    def word_or_integer(self, key: str, default: str, words: tuple[str, ...], least: int, most: int) -> str | int:
        """One of some words, or a whole number."""
        found = self._take(key, default)
        number = isinstance(found, int) and not isinstance(found, bool) and least <= found <= most
        if not number and found not in words:
            spoken = ", ".join(f'"{word}"' for word in words)
            raise self._wrong(key, found, f"{spoken} or a whole number from {least} to {most}")
        return found  # type: ignore[return-value]

    def done(self) -> None:
        """Nothing else was expected."""
        if self._left:
            unknown = ", ".join(sorted(self._left))
            raise ConfigurationError(
                f"{self._where}: unknown option {unknown}; the options are {', '.join(sorted(self._known))}"
            )
