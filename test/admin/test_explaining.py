"""Explanations and what goes with them, as people and scripts get them: command, REST, and the values between."""

from __future__ import annotations

import json

from attrs import evolve
from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from dst.admin.display_explained import explanation_lines, resync_lines
from dst.admin.schema_explained import (
    explanations_from_envelope,
    explanations_to_envelope,
    resyncs_from_envelope,
    resyncs_to_envelope,
)
from dst.errors import DeadlinePassed, PeerError, Unavailable
from dst.explaining import Explanation, ResyncRecord
from dst.explaining_trees import explain_tree
from dst.status import Health
from dst.words import duration_in_words
from test.admin.commands import CommandCase
from test.admin.fixture import everything
from test.admin.test_rest import HOST, RestCase

NOW = 1_700_000_000.0

LEAF = Explanation(
    "b", "remote", Health.FAILED, "absent", NOW - 60, "b is absent: no route", evidence=("its link is away",)
)
STORAGE = Explanation(
    "vol",
    "mirror",
    Health.DEGRADED,
    "ready",
    NOW - 340,
    "vol is degraded: b absent",
    row="returning",
    evidence=("claim 3", "2 of 3 votes"),
    next_step="b: it is tried again",
    condition="b: its daemon can be reached",
    within_s=15.0,
    advice=("look at the daemon of b",),
    children=(Explanation("a", "file", Health.HEALTHY, "in-sync", NOW - 9000, "a is in-sync"), LEAF),
)
ENDED = ResyncRecord(
    "b", "partial", "it was away for 5 min", "returning", NOW - 300, 12.5, 10 << 20, 3 << 20, "in-sync"
)


class ValuesTests(SynchronousTestCase):
    """To JSON and back."""

    def test_explanations(self) -> None:
        """What was explained is what is read."""
        there = json.loads(json.dumps(explanations_to_envelope([STORAGE, LEAF], NOW)))
        self.assertEqual([STORAGE, LEAF], explanations_from_envelope(there))

    def test_resyncs(self) -> None:
        """So is the history."""
        there = json.loads(json.dumps(resyncs_to_envelope([ENDED], NOW)))
        self.assertEqual([ENDED], resyncs_from_envelope(there))

    def test_nonsense(self) -> None:
        """What is no such answer is the other side's mistake."""
        good = explanations_to_envelope([STORAGE], NOW)
        for wrong in (
            None,
            [],
            {},
            {**good, "version": 2},
            {**good, "explanations": {}},
            {**good, "explanations": [5]},
            {**good, "explanations": [{}]},
            {**good, "explanations": [{**good["explanations"][0], "health": "fine"}]},  # type: ignore[index]
        ):
            self.assertRaises(PeerError, explanations_from_envelope, wrong)
            self.assertRaises(PeerError, resyncs_from_envelope, wrong)


class DisplayTests(SynchronousTestCase):
    """As text."""

    def text(self, *explanations: Explanation, width: int | None = None, everything: bool = False) -> str:
        lines = explanation_lines(explanations, now=NOW, width=width, everything=everything)
        return "\n".join(line.plain for line in lines)

    def test_order(self) -> None:
        """What is, why, what is next and when, what you can do, what was seen, and who decided."""
        self.assertEqual(
            "\n".join(
                [
                    "vol  mirror  degraded  for 5 min 40 s",
                    "   why      vol is degraded: b absent",
                    "   next     b: it is tried again",
                    "   when     b: its daemon can be reached (within 15 s of that)",
                    "   you can  look at the daemon of b",
                    "   seen     claim 3",
                    "            2 of 3 votes",
                    "   decided  by the row `returning`",
                    "   a  file  in-sync  for 2 h 30 min",
                    "   b  remote  absent  for 1 min",
                    "      why      b is absent: no route",
                    "      next     nothing: all is well",
                    "      seen     its link is away",
                ]
            ),
            self.text(STORAGE),
        )

    def test_everything(self) -> None:
        """What is well is one line, unless it is asked for."""
        well = STORAGE.children[0]
        self.assertEqual(1, len(self.text(well).splitlines()))
        self.assertIn("nothing: all is well", self.text(well, everything=True))

    def test_narrow(self) -> None:
        """Sentences are wrapped beside their label, and nothing is lost."""
        wide = " ".join(self.text(*map(explain_tree, everything(NOW))).split())
        narrow = self.text(*map(explain_tree, everything(NOW)), width=60)
        self.assertEqual(wide, " ".join(narrow.split()))
        self.assertLessEqual(max(map(len, narrow.splitlines())), 78)

    def test_standby(self) -> None:
        """That another daemon owns it is no trouble, and is not shown as one."""
        standby = evolve(STORAGE, health=Health.FROZEN, state="away", row="owned-elsewhere")
        self.assertEqual("vol  mirror  standby  for 5 min 40 s", self.text(standby).splitlines()[0])

    def test_no_steering(self) -> None:
        """What another daemon says does not steer a terminal."""
        self.assertNotIn("\x1b", self.text(evolve(LEAF, summary="\x1b[2J", advice=("\x1b]0;x\x07",))))

    def test_history(self) -> None:
        """A resync that has ended is a line, and its cause another."""
        first, second = (line.plain for line in resync_lines([ENDED]))
        self.assertIn(f"b  partial  3.00 MiB of 10.0 MiB sent in {duration_in_words(12.5)}  in-sync", first)
        self.assertEqual("   it was away for 5 min (row `returning`)", second)


class ExplainTests(CommandCase):
    """C{dst explain}"""

    def test_everything(self) -> None:
        """Without a name everything is explained: what is well in a line, what is not in full."""
        result = self.dst("explain")
        self.assertEqual(0, result.exit_code, result.output)
        self.assertIn("vol  mirror  healthy\n", result.stdout)
        self.assertIn("why      fresh is frozen: not initialised: node x holds data", result.stdout)

    def test_one(self) -> None:
        """Whoever asks about something that is well is told so."""
        result = self.dst("explain", "vol")
        self.assertIn("nothing: all is well", result.stdout)
        self.assertNotIn("fresh", result.stdout)

    def test_member(self) -> None:
        """A member has the command that helps."""
        self.fake.suspend("vol", "b")
        self.assertIn("`dst resume STORAGE b` uses it again", self.dst("explain", "b").stdout)

    def test_json(self) -> None:
        """For scripts it is what REST says."""
        self.fake.explanations = [STORAGE]
        answer = json.loads(self.dst("explain", "--json").stdout)
        self.assertEqual(explanations_to_envelope([STORAGE], NOW), {**answer})

    def test_unknown(self) -> None:
        """A name that is not there is an error."""
        self.assert_error(self.dst("explain", "nothing"), "there is no storage or node 'nothing' here")


class StorageCommandTests(CommandCase):
    """C{dst storage}"""

    def test_take_over(self) -> None:
        """While it waits it says how things are, once each; then that it is done."""
        self.fake.owned_elsewhere.add("vol")
        self.fake.waiting = True
        waiting = evolve(STORAGE, summary="vol is owned by other, whose lease runs", next_step="other hands it over")
        self.fake.explanations = [waiting]
        self.script = {
            2: lambda: self.fake.explanations.__setitem__(0, evolve(waiting, summary="vol is released")),  # type: ignore[union-attr]
            4: self.fake.release,
        }
        result = self.dst("storage", "take-over", "vol")
        self.assertEqual((0, "vol is owned and served here\n"), (result.exit_code, result.stdout))
        self.assertEqual(
            [
                "... vol is owned by other, whose lease runs; next: other hands it over",
                "... vol is released; next: other hands it over",
            ],
            result.stderr.splitlines(),
        )
        self.assertEqual(set(), self.fake.owned_elsewhere)

    def test_take_over_in_time(self) -> None:
        """Nobody waits for ever: what goes on is said."""
        self.fake.waiting = True
        result = self.dst("storage", "take-over", "vol", "--wait", "3")
        self.assertEqual(6, result.exit_code)
        self.assertIn("'vol' was not taken over in 3 s; the daemon goes on trying", result.stderr)

    def test_take_over_refused(self) -> None:
        """A storage that is served here already cannot be taken over."""
        result = self.dst("storage", "take-over", "vol")
        self.assertEqual((1, ""), (result.exit_code, result.stdout))
        self.assertIn("error: 'vol' is served by this daemon already", result.stderr)

    def test_resolve(self) -> None:
        """It shows what stands against what, asks, and does it."""
        self.fake.diverged.add("vol")
        self.fake.explanations = [evolve(STORAGE, summary="two histories", advice=("keeping a discards 5 MiB of b",))]
        result = self.dst("storage", "resolve", "vol", "--keep", "a", answer="y\n")
        self.assertEqual(0, result.exit_code, result.output)
        self.assertIn("keeping a discards 5 MiB of b", result.stderr)
        self.assertIn("what only the other histories have is lost for ever", result.stderr)
        self.assertIn("vol goes on with the history of a", result.stdout)
        self.assertEqual(set(), self.fake.diverged)

    def test_resolve_not_agreed(self) -> None:
        """Without a yes nothing is done."""
        self.fake.diverged.add("vol")
        self.assertEqual(1, self.dst("storage", "resolve", "vol", "--keep", "a", answer="n\n").exit_code)
        self.assertEqual({"vol"}, self.fake.diverged)
        self.assertNotIn("resolve", [call[0] for call in self.fake.calls])

    def test_resolve_needs_keep(self) -> None:
        """The choice is a person's: there is no default."""
        self.assertEqual(2, self.dst("storage", "resolve", "vol", "--yes").exit_code)

    def test_grow(self) -> None:
        """It is asked for without a question, and the answer is the new size."""
        self.fake.room["vol"] = 5 << 40
        result = self.dst("storage", "grow", "vol")
        self.assertEqual(0, result.exit_code, result.output)
        self.assertEqual("vol has 5.00 TiB now (5497558138880 bytes)\n", result.stdout)

    def test_grow_takes_long(self) -> None:
        """An answer that had a limit is asked for again; what was done meanwhile is no error."""
        asked = self.fake.grow
        self.fake.room["vol"] = 5 << 40

        def late(_: object, storage: str) -> Deferred[None]:
            return asked(storage).addCallback(lambda _: fail(DeadlinePassed("it goes on")))

        self.patch(type(self.fake), "grow", late)
        result = self.dst("storage", "grow", "vol")
        self.assertEqual((0, 2), (result.exit_code, self.fake.calls.count(("grow", "vol"))), result.output)
        self.assertIn("5.00 TiB now", result.stdout)

    def test_grow_without_room(self) -> None:
        """Who is too small is said, and nothing was done."""
        result = self.dst("storage", "grow", "vol")
        self.assertEqual((1, ""), (result.exit_code, result.stdout))
        self.assertIn("no room for more on a", result.stderr)

    def test_pause_and_resume(self) -> None:
        """Of one member, or of all."""
        self.assertIn("resync of b of vol is paused", self.dst("storage", "pause-resync", "vol", "b").stdout)
        self.assertIn("resync of every member of vol goes on", self.dst("storage", "resume-resync", "vol").stdout)
        self.assertEqual([("pause-resync", "vol", "b"), ("resume-resync", "vol", "")], self.fake.calls)

    def test_history(self) -> None:
        """The resyncs that have ended; none at first."""
        self.assertIn("no resync of vol has ended", self.dst("storage", "history", "vol").stdout)
        self.fake.history = [ENDED]
        self.assertIn("it was away for 5 min", self.dst("storage", "history", "vol").stdout)
        answer = json.loads(self.dst("storage", "history", "vol", "--json").stdout)
        self.assertEqual([ENDED], resyncs_from_envelope(answer))

    def test_other_commands(self) -> None:
        """The commands on a storage are there, too, as they are at the top."""
        self.assertEqual(0, self.dst("storage", "suspend", "vol", "b").exit_code)
        self.assertEqual([("suspend", "vol", "b")], self.fake.calls)


class RoutesTests(RestCase):
    """C{/v1/explain} and what was added to the operations."""

    def test_explain(self) -> None:
        """Everything, or one by its name, quoted as a path segment is."""
        self.fake.explanations = [STORAGE]
        for path, expected in ((b"/v1/explain", STORAGE), (b"/v1/explain/vol", STORAGE), (b"/v1/explain/b", LEAF)):
            code, headers, content = self.ask(b"GET " + path)
            self.assertEqual((200, "no-store"), (code, headers["cache-control"]))
            self.assertEqual([expected], explanations_from_envelope(json.loads(content)))
        code, _, content = self.ask(b"GET /v1/explain/a%2Fb")
        self.assert_error(404, "not-found", (code, json.loads(content)))

    def test_history(self) -> None:
        """The resyncs that have ended."""
        self.fake.history = [ENDED]
        code, _, content = self.ask(b"GET /v1/storages/vol/resyncs")
        self.assertEqual((200, [ENDED]), (code, resyncs_from_envelope(json.loads(content))))

    def test_unavailable(self) -> None:
        """An error of the cluster is one of these, too."""
        self.fake.failing = Unavailable("the owner is away")
        for path in (b"/v1/explain", b"/v1/explain/vol", b"/v1/storages/vol/resyncs"):
            code, _, content = self.ask(b"GET " + path)
            self.assert_error(503, "unavailable", (code, json.loads(content)))

    def test_operations(self) -> None:
        """Each reaches the cluster with its arguments."""
        self.fake.owned_elsewhere.add("vol")
        self.fake.diverged.add("vol")
        self.fake.room["vol"] = 5 << 40
        for operation, body in (
            (b"take-over", {}),
            (b"resolve", {"keep": "a"}),
            (b"grow", {}),
            (b"pause-resync", {"node": "b"}),
            (b"resume-resync", {}),
        ):
            code, answer = self.post(b"/v1/storages/vol/" + operation, body)
            self.assertEqual((200, operation.decode()), (code, answer.get("done")), answer)
        self.assertEqual(
            [
                ("take-over", "vol"),
                ("resolve", "vol", "a"),
                ("grow", "vol"),
                ("pause-resync", "vol", "b"),
                ("resume-resync", "vol", ""),
            ],
            self.fake.calls,
        )

    def test_wrong_body(self) -> None:
        """A take-over has nothing to say, and what cannot be meant is refused."""
        self.assert_error(400, "invalid-request", self.post(b"/v1/storages/vol/take-over", {"node": "b"}))
        self.assert_error(400, "invalid-request", self.post(b"/v1/storages/vol/resolve", {}))
        self.assertEqual([], self.fake.calls)

    def test_method(self) -> None:
        """An explanation is asked for, not posted."""
        code, headers, _ = self.ask(b"DELETE /v1/explain", HOST)
        self.assertEqual((405, "GET, HEAD"), (code, headers["allow"]))
