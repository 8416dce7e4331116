"""
The tables of the manual's page on REST, made of the routes and the errors.

C{python -m dst.admin.rest_manual docs} writes them.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from dst.admin.routes.calls import Route
from dst.admin.routes.table import ROUTES, TAGS
from dst.admin.schema import ERRORS

__all__ = ["FILE_NAME", "manual"]

FILE_NAME = "rest_table.inc"


def manual() -> str:
    """The text of the file, in reST."""
    lines = [".. Made by `python -m dst.admin.rest_manual docs` of the routes there are.", ""]
    for tag, about in TAGS.items():
        routes = [route for route in ROUTES if route.listed and route.tag == tag]
        lines += [_capital(tag), "^" * len(tag), "", about, ""]
        lines += [".. list-table::", "   :header-rows: 1", "   :widths: 45 10 45", ""]
        lines += _row("Address", "Role", "What")
        for route in routes:
            shown = re.sub(r"{(\w+)}", lambda found: found[1].upper(), route.path)
            lines += _row(f"``{route.method} {shown}``", _role(route), _about(route))
        lines.append("")
    lines += ["Codes of errors", "^^^^^^^^^^^^^^^", ""]
    lines += [".. list-table::", "   :header-rows: 1", "   :widths: 25 10 65", ""]
    lines += _row("Code", "HTTP", "What can be done")
    for error in ERRORS:
        lines += _row(f"``{error.code}``", str(error.http_status), error.correction.replace("`", "``"))
    return "\n".join(lines) + "\n"


def _role(route: Route) -> str:
    return "anybody" if route.role is None else route.role.value


def _about(route: Route) -> str:
    about = route.about.replace("`", "``")
    if route.query:
        about += " Parameters: " + ", ".join(f"``{parameter.name}``" for parameter in route.query) + "."
    if route.locks:
        about += " Demands ``If-Match``."
    if route.validates:
        about += " Has an ``ETag``."
    if route.body is not None:
        about += f" Body: {_size(route.body.bytes_max)} at most."
    return about


def _size(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count >> 10} KiB"


def _row(*cells: str) -> list[str]:
    return [f"   {'* ' if number == 0 else '  '}- {cell}" for number, cell in enumerate(cells)]


def _capital(word: str) -> str:
    return word[0].upper() + word[1:]


if __name__ == "__main__":
    (Path(sys.argv[1]) / FILE_NAME).write_text(manual())
