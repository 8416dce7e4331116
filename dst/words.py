"""Numbers as people say them."""

from __future__ import annotations

__all__ = ["duration_in_words", "percent_in_words", "printable", "rate_in_words", "size_in_words"]

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def size_in_words(count: float) -> str:
    """C{count} bytes with three digits and a unit of 1024: C{"63.5 MiB"}."""
    unit = 0
    while count >= 999.5 and unit < len(_UNITS) - 1:
        count /= 1024
        unit += 1
    if unit == 0:
        return f"{count:.0f} B"
    digits = 2 if count < 9.995 else 1 if count < 99.95 else 0
    return f"{count:.{digits}f} {_UNITS[unit]}"


def rate_in_words(bytes_per_s: float) -> str:
    """As L{size_in_words}, per second."""
    return f"{size_in_words(bytes_per_s)}/s"


def duration_in_words(seconds: float) -> str:
    """The two largest units: C{"3 min 20 s"}.  More is precision that nobody has."""
    left = max(0, round(seconds))
    days, left = divmod(left, 86400)
    hours, left = divmod(left, 3600)
    minutes, left = divmod(left, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (left, "s")]
    while len(parts) > 1 and parts[0][0] == 0:
        parts.pop(0)
    return " ".join(f"{number} {unit}" for number, unit in parts[:2] if number or len(parts) == 1)


def percent_in_words(done: float, total: float) -> str:
    """C{"99.9%"} until it is really done: rounding must not announce the end."""
    if total <= 0 or done >= total:
        return "100%"
    return f"{min(99.9, 100 * done / total):.1f}%"


def printable(text: str) -> str:
    """
    C{text} without what would steer a terminal: names and reasons may come from another daemon.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
