"""The status as text."""

from __future__ import annotations

from attrs import evolve
from rich.cells import cell_len
from twisted.trial.unittest import SynchronousTestCase

from dst.admin.display import changes, status_lines
from dst.explaining_trees import explain_tree
from dst.status import Health, ResyncProgress, StatusTree
from test.admin.fixture import everything

NOW = 1_700_000_000.0


def drawn(trees: list[StatusTree], width: int | None = None, **options: bool) -> list[str]:
    return [line.plain for line in status_lines(trees, now=NOW, width=width, **options)]


class StatusLinesTests(SynchronousTestCase):
    """L{status_lines}"""

    def test_one_storage(self) -> None:
        """A transcript of one that heals."""
        self.assertEqual(
            [
                "NAME         KIND        SIZE  STATE      FOR",
                "vol          mirror  64.0 GiB  degraded   5 min 40 s",
                "│    1 of 3 members is not in sync",
                "│    1 more can be lost · 7.39 GiB not the same everywhere",
                "├─ a         file    64.0 GiB  in-sync    2 d",
                "├─ b         remote  64.0 GiB  resyncing  5 min 40 s",
                "│  │    it was absent for 5 min 12 s",
                "│  │    partial resync: 213 regions were written while it was away",
                "│  │    ━━━━━━━━──────────── 43.1% · 7.39 GiB left · 118 MiB/s · 1 min 4 s to go",
                "│  └─ b      file    64.0 GiB  ready      5 min 40 s",
                "└─ c         remote  64.0 GiB  in-sync    2 d",
                "   └─ inner  linear  64.0 GiB  healthy    2 d",
                "      ├─ p   file    32.0 GiB  in-sync    2 d",
                "      └─ q   file    32.0 GiB  in-sync    2 d",
            ],
            drawn([tree for tree in everything(NOW) if tree.name == "vol"]),
        )

    def test_width(self) -> None:
        """Nothing is wider than the terminal, whatever there is to say, and nothing is left out."""
        words = set(" ".join(drawn(everything(NOW))).split())
        for width in (80, 100, 120):
            lines = drawn(everything(NOW), width)
            self.assertLessEqual(max(cell_len(line) for line in lines), width)
            self.assertEqual(words, set(" ".join(lines).split()))

    def test_advice(self) -> None:
        """Below what is not healthy stands what comes next and what a person can do, where it is about; once."""
        healthy, degraded = (
            StatusTree(name, "mirror", Health.HEALTHY, "ready", size=1 << 20) for name in ("fine", "vol")
        )
        members = (
            StatusTree("a", "file", Health.HEALTHY, "in-sync", size=1 << 20),
            StatusTree("b", "file", Health.DEGRADED, "suspended", reason="suspended by hand", size=1 << 20),
        )
        trees = [healthy, evolve(healthy, name="vol", health=Health.DEGRADED, children=members)]
        why = {tree.name: explain_tree(tree) for tree in trees}
        member = why["vol"].children[1]
        member = evolve(member, next_step="nothing without a person", advice=("`dst resume vol b` uses it again",))
        top = evolve(
            why["vol"], next_step="b: nothing without a person", advice=("see below what can be done about b",)
        )
        why["vol"] = evolve(top, children=(why["vol"].children[0], member))
        lines = [line.plain for line in status_lines(trees, now=NOW, explained=why)]
        self.assertEqual(1, sum("nothing without a person" in line for line in lines), lines)
        self.assertIn("you can: `dst resume vol b` uses it again", lines[-1])
        self.assertNotIn("see below", "".join(lines))

    def test_ascii(self) -> None:
        """A terminal that shows only ASCII is given only that."""
        for line in drawn(everything(NOW), ascii_only=True):
            self.assertTrue(line.isascii(), line)

    def test_hostile_words(self) -> None:
        """What another daemon calls its nodes cannot steer the terminal or break the columns."""
        tree = StatusTree(
            "\x1b[2J\n" + "n" * 300, "k\x07", Health.FAILED, "a\tb", reason="\x1b]0;x\x07 [red]" + "r" * 500
        )
        for line in drawn([tree], 80):
            self.assertTrue(line.isprintable() or line == "", repr(line))
        self.assertIn("[red]", "".join(drawn([tree], 80)))

    def test_stalled(self) -> None:
        """A resync that does not move says why, and promises nothing."""
        progress = ResyncProgress("full", "new media", 100, 100, 0, 0.0, "the source is busy")
        member = StatusTree("a", "file", Health.FAILED, "resyncing", resync=progress)
        text = "\n".join(drawn([StatusTree("vol", "mirror", Health.DEGRADED, "ready", children=(member,))]))
        self.assertIn("0.0% · 100 B left · waits: the source is busy", text)
        self.assertNotIn("to go", text)

    def test_nothing_to_copy(self) -> None:
        """A resync of nothing is complete, and divides by nothing."""
        member = StatusTree("a", "file", Health.FAILED, "resyncing", resync=ResyncProgress("full", "", 0, 0, 0))
        self.assertIn("100%", "\n".join(drawn([evolve(member, children=())])))


class ChangesTests(SynchronousTestCase):
    """L{changes}"""

    def test_same(self) -> None:
        """Where no word has changed there is nothing to say, whatever the numbers do."""
        before = everything(NOW)
        after = [evolve(tree, dirty_bytes=tree.dirty_bytes + 1) for tree in before]
        self.assertEqual([], changes(before, after))

    def test_gone_and_new(self) -> None:
        """What is gone is said, and what is new."""
        trees = everything(NOW)
        self.assertEqual(["usb: no longer there"], changes(trees, [tree for tree in trees if tree.name != "usb"]))
        self.assertEqual(["spare: ready"], changes([], [tree for tree in trees if tree.name == "spare"]))


class OwnershipTests(SynchronousTestCase):
    """Whose a mirror is, where that is not simply this daemon's."""

    def lines(self, **detail: object) -> list[str]:
        """The storage's lines."""
        members = (StatusTree("a", "file", Health.HEALTHY, "in-sync"),)
        reason = str(detail.pop("reason", ""))
        tree = StatusTree("vol", "mirror", Health.FROZEN, "away", reason=reason, detail=detail, children=members)
        return [line.plain for line in status_lines([tree], now=1000.0)]

    def test_standby(self) -> None:
        """A standby is called one, and says who the owner is, once."""
        lines = self.lines(role="standby", owner="host-a (3f2a11)")
        self.assertIn("standby", lines[1])
        self.assertIn("standby; host-a (3f2a11) is the owner", lines[2])
        lines = self.lines(role="standby", owner="host-a (3f2a11)", reason="it is owned by host-a (3f2a11)")
        self.assertEqual(1, sum("host-a" in line for line in lines))
        self.assertIn("standby; nobody is the owner now", self.lines(role="standby", owner="")[2])

    def test_votes(self) -> None:
        """Votes are worth a line when some are missing."""
        votes = [{"name": name, "granted": name != "w"} for name in ("a", "b", "w")]
        self.assertIn("2 of 3 votes, 2 needed; not w", self.lines(role="owner", votes=votes, quorum=2)[2])
        granted = [{**vote, "granted": True} for vote in votes]
        self.assertNotIn("votes", " ".join(self.lines(role="owner", votes=granted, quorum=2)))

    def test_nonsense(self) -> None:
        """What another daemon says wrongly is not shown, and fails nothing."""
        for votes in ("text", [1, 2], [{}, {}], {"a": 1}):
            self.lines(role=5, owner=["x"], votes=votes, quorum="many")
