"""
What was found: a table for people, JSON for programs, and a plot.
"""

from __future__ import annotations

from html import escape
from statistics import median

from attrs import asdict, define, field

from benchmarks.fio import Cell, Row
from benchmarks.subjects import Kind

__all__ = ["Results"]

_OURS, _PEER = "#2f6f9f", "#c3ccd4"


@define
class Results:
    """
    The cells of one group of comparable servers.

    @ivar cells: by row and server, one cell for each round.
    """

    group: str
    kinds: list[Kind]
    rows: list[Row]
    cells: dict[tuple[Row, str], list[Cell]] = field(factory=dict)

    def add(self, row: Row, kind: Kind, cell: Cell) -> None:
        """Note one measurement."""
        self.cells.setdefault((row, kind.name), []).append(cell)

    def per_s(self, row: Row, kind: Kind) -> float:
        """The median over the rounds."""
        return median(cell.per_s for cell in self.cells[row, kind.name])

    def best_peer(self, row: Row) -> tuple[str, float] | None:
        """The fastest peer of a row, if any was measured."""
        peers = [(kind.name, self.per_s(row, kind)) for kind in self.kinds if not kind.ours]
        return max(peers, key=lambda peer: peer[1], default=None)

    def ratio(self, row: Row) -> float | None:
        """DST over the best peer."""
        best = self.best_peer(row)
        ours = [kind for kind in self.kinds if kind.ours]
        return self.per_s(row, ours[0]) / best[1] if best and ours else None

    def table(self) -> str:
        """Operations a second, a row a line."""
        lines = [["operations a second", *(kind.name for kind in self.kinds), "DST / best peer"]]
        for row in self.rows:
            ratio = self.ratio(row)
            numbers = [f"{self.per_s(row, kind):,.0f}" for kind in self.kinds]
            lines.append([row.name, *numbers, "" if ratio is None else f"{ratio:.2f}"])
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        text = []
        for line in lines:
            padded = [word.rjust(width) for word, width in zip(line, widths, strict=True)]
            text.append("  ".join([line[0].ljust(widths[0]), *padded[1:]]).rstrip())
        return "\n".join(text)

    def plain(self) -> dict[str, object]:
        """As JSON types, every round included."""
        rows = []
        for row in self.rows:
            servers = {
                kind.name: {
                    "per_s": round(self.per_s(row, kind), 1),
                    "mib_per_s": round(self.per_s(row, kind) * row.block_bytes / (1 << 20), 1),
                    "rounds": [asdict(cell) for cell in self.cells[row, kind.name]],
                }
                for kind in self.kinds
            }
            rows.append({**asdict(row), "name": row.name, "servers": servers, "ratio": self.ratio(row)})
        return {"group": self.group, "rows": rows}

    def plot(self) -> str:
        """
        An SVG: for each row a bar per server, as a share of the fastest of the row, so that rows of different
        block sizes stand in one picture.
        """
        bar, gap, left, width = 13, 14, 190, 480
        parts = []
        y = 34
        for row in self.rows:
            values = [(kind, self.per_s(row, kind)) for kind in self.kinds]
            most = max(value for _kind, value in values) or 1.0
            middle = y + len(values) * bar / 2 + 4
            parts.append(f'<text x="{left - 10}" y="{middle:g}" text-anchor="end">{escape(row.name)}</text>')
            for kind, value in values:
                length = width * value / most
                colour = _OURS if kind.ours else _PEER
                parts.append(f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{bar - 2}" fill="{colour}"/>')
                label = f"{escape(kind.name)} {value:,.0f}/s"
                parts.append(f'<text x="{left + length + 6:.1f}" y="{y + bar - 3}" class="small">{label}</text>')
                y += bar
            y += gap
        style = "text{font:12px sans-serif;fill:#222} .small{font-size:10px;fill:#555}"
        title = f"{self.group}: operations a second, share of the fastest in each row"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 160}" height="{y + 4}" role="img">'
            f"<title>{escape(title)}</title><style>{style}</style>"
            f'<rect width="100%" height="100%" fill="#fff"/><text x="10" y="18">{escape(title)}</text>'
            + "".join(parts)
            + "</svg>\n"
        )
