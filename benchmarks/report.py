"""
What was found: tables for people, JSON for programs, and a plot.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from statistics import median

from attrs import asdict, define, field, frozen

from benchmarks.fio import Cell
from benchmarks.groups import Group
from benchmarks.rows import Row
from benchmarks.subjects import Kind

__all__ = ["Ratio", "Results", "columns", "goal_lines"]

_OURS, _PEER, _REFERENCE = "#2f6f9f", "#c3ccd4", "#e6ebef"
_GIB, _MIB = 1 << 30, 1 << 20


@frozen
class Ratio:
    """
    Ours over the best peer of a row.

    @ivar middle: the median of the ratios of the rounds; each compares neighbours in time.
    @ivar least: the worst round.
    @ivar most: the best round.
    """

    peer: str
    middle: float
    least: float
    most: float


def columns(lines: Sequence[Sequence[str]]) -> str:
    """Lines of words as a table: the first column to the left, the others to the right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = []
    for line in lines:
        padded = [word.rjust(width) for word, width in zip(line, widths, strict=True)]
        text.append("  ".join([line[0].ljust(widths[0]), *padded[1:]]).rstrip())
    return "\n".join(text)


def goal_lines(figures: Sequence[tuple[str, str, str, bool]]) -> str:
    """Every goal beside its figure: name, figure, goal, whether it is met."""
    lines = [["goals", "figure", "goal", ""]]
    lines += [[name, figure, goal, "met" if met else "NOT MET"] for name, figure, goal, met in figures]
    met = sum(figure[3] for figure in figures)
    return f"{columns(lines)}\n{met} of {len(figures)} goals met"


@define
class Results:
    """
    The cells of one group of comparable servers.

    @ivar kinds: those that could be measured.
    @ivar cells: by row and server, one cell for each round, in their order.
    """

    group: Group
    kinds: list[Kind]
    rows: list[Row]
    cells: dict[tuple[Row, str], list[Cell]] = field(factory=dict)

    def add(self, row: Row, kind: Kind, cell: Cell) -> None:
        """Note one measurement."""
        self.cells.setdefault((row, kind.name), []).append(cell)

    def per_s(self, row: Row, kind: Kind) -> float:
        """The median over the rounds."""
        return median(cell.per_s for cell in self.cells[row, kind.name])

    def spread(self, row: Row, kind: Kind) -> float:
        """From the slowest to the fastest round, as a part of the median."""
        values = [cell.per_s for cell in self.cells[row, kind.name]]
        middle = median(values)
        return (max(values) - min(values)) / middle if middle else 0.0

    def processor_s_per_gib(self, row: Row, kind: Kind) -> tuple[float, float]:
        """Of the servers and of the client, over all rounds."""
        cells = self.cells[row, kind.name]
        gib = sum(cell.bytes for cell in cells) / _GIB or 1.0
        return sum(cell.server_s for cell in cells) / gib, sum(cell.client_s for cell in cells) / gib

    def peak_bytes(self, row: Row, kind: Kind) -> int:
        """Of the servers, in any round."""
        return max(cell.peak_bytes for cell in self.cells[row, kind.name])

    def ratio(self, row: Row) -> Ratio | None:
        """DST and the fastest peer, if any was measured."""
        ours = next((kind for kind in self.kinds if kind.ours), None)
        peers = [kind for kind in self.kinds if not kind.ours and not kind.reference]
        if ours is None or not peers:
            return None
        best = max(peers, key=lambda kind: self.per_s(row, kind))
        rounds = [
            mine.per_s / theirs.per_s
            for mine, theirs in zip(self.cells[row, ours.name], self.cells[row, best.name], strict=True)
            if theirs.per_s
        ]
        return Ratio(best.name, median(rounds), min(rounds), max(rounds)) if rounds else None

    def figures(self) -> list[tuple[str, str, str, bool]]:
        """The goals of the rows that have a ratio, for L{goal_lines}."""
        found = []
        for row in self.rows:
            ratio = self.ratio(row)
            if ratio is not None:
                goal = self.group.goals[row]
                name = f"{self.group.name}: {row.name} / {ratio.peer}"
                found.append((name, f"{ratio.middle:.2f}", f"{goal:g}", ratio.middle >= goal))
        return found

    def table(self) -> str:
        """Operations a second, a row a line, with the spread of the rounds, the ratio and its range, and the goal."""
        lines = [["operations a second", *(kind.name for kind in self.kinds), "ratio", "of rounds", "goal", ""]]
        for row in self.rows:
            numbers = [f"{self.per_s(row, kind):,.0f} ±{50 * self.spread(row, kind):.0f}%" for kind in self.kinds]
            ratio, goal = self.ratio(row), self.group.goals[row]
            told = ["", "", f"{goal:g}", ""]
            if ratio is not None:
                met = "met" if ratio.middle >= goal else "NOT MET"
                told = [f"{ratio.middle:.2f}", f"{ratio.least:.2f}-{ratio.most:.2f}", f"{goal:g}", met]
            lines.append([row.name, *numbers, *told])
        return columns(lines)

    def costs(self) -> str:
        """Processor time per GiB of the servers + the client, and the most memory of the servers."""
        lines = [["processor s/GiB, server + client; MiB", *(kind.name for kind in self.kinds)]]
        for row in self.rows:
            words = []
            for kind in self.kinds:
                server, client = self.processor_s_per_gib(row, kind)
                words.append(f"{server:.2f} + {client:.2f}; {self.peak_bytes(row, kind) / _MIB:.0f}")
            lines.append([row.name, *words])
        return columns(lines) + self._syncs()

    def syncs_per_write(self, row: Row, kind: Kind) -> float:
        """How often the servers told a disk to keep what it has, for each block; -1 where nobody counted."""
        cells = [cell for cell in self.cells[row, kind.name] if cell.syncs >= 0]
        blocks = sum(cell.bytes for cell in cells) / (row.block_bytes or 1)
        return sum(cell.syncs for cell in cells) / blocks if blocks else -1.0

    def _syncs(self) -> str:
        """That as a table, if anybody counted."""
        lines = [["fdatasync of all copies, per block", *(kind.name for kind in self.kinds)]]
        for row in self.rows:
            found = [self.syncs_per_write(row, kind) for kind in self.kinds]
            lines.append([row.name, *(f"{each:.4f}" if each >= 0 else "" for each in found)])
        counted = any(word for line in lines[1:] for word in line[1:])
        return f"\n\n{columns(lines)}" if counted else ""

    def plain(self) -> dict[str, object]:
        """As JSON types, every round included."""
        rows = []
        for row in self.rows:
            servers = {}
            for kind in self.kinds:
                server_s, client_s = self.processor_s_per_gib(row, kind)
                servers[kind.name] = {
                    "per_s": round(self.per_s(row, kind), 1),
                    "spread": round(self.spread(row, kind), 3),
                    "mib_per_s": round(self.per_s(row, kind) * row.block_bytes / _MIB, 1),
                    "server_s_per_gib": round(server_s, 3),
                    "client_s_per_gib": round(client_s, 3),
                    "peak_bytes": self.peak_bytes(row, kind),
                    "syncs_per_write": round(self.syncs_per_write(row, kind), 4),
                    "rounds": [asdict(cell) for cell in self.cells[row, kind.name]],
                }
            ratio, goal = self.ratio(row), self.group.goals[row]
            told = None if ratio is None else {**asdict(ratio), "met": ratio.middle >= goal}
            rows.append({**asdict(row), "name": row.name, "servers": servers, "ratio": told, "goal": goal})
        return {"group": self.group.name, "what": self.group.what, "rows": rows}

    def plot(self) -> str:
        """
        An SVG: for each row a bar per server, as a share of the fastest of the row, so that rows of different
        block sizes stand in one picture.
        """
        bar, gap, left, width = 13, 14, 220, 480
        parts = []
        y = 34
        for row in self.rows:
            values = [(kind, self.per_s(row, kind)) for kind in self.kinds]
            most = max(value for _kind, value in values) or 1.0
            middle = y + len(values) * bar / 2 + 4
            parts.append(f'<text x="{left - 10}" y="{middle:g}" text-anchor="end">{escape(row.name)}</text>')
            for kind, value in values:
                length = width * value / most
                colour = _OURS if kind.ours else _REFERENCE if kind.reference else _PEER
                parts.append(f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{bar - 2}" fill="{colour}"/>')
                label = f"{escape(kind.name)} {value:,.0f}/s"
                parts.append(f'<text x="{left + length + 6:.1f}" y="{y + bar - 3}" class="small">{label}</text>')
                y += bar
            y += gap
        style = "text{font:12px sans-serif;fill:#222} .small{font-size:10px;fill:#555}"
        title = f"{self.group.name}: operations a second, share of the fastest in each row"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 160}" height="{y + 4}" role="img">'
            f"<title>{escape(title)}</title><style>{style}</style>"
            f'<rect width="100%" height="100%" fill="#fff"/><text x="10" y="18">{escape(title)}</text>'
            + "".join(parts)
            + "</svg>\n"
        )
