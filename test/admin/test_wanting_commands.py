"""The commands of C{dst} that change what is wanted, and those that list."""

from __future__ import annotations

import json
from typing import Any

from attrs import evolve
from click.testing import Result
from twisted.internet.defer import Deferred, succeed

from dst.administration import (
    Configuration,
    HealthFinding,
    ListenerStatus,
    OperationState,
    OperationStatus,
    Plan,
    PlanStep,
    SessionStatus,
    Severity,
    Traffic,
)
from dst.testing.fake_admin import FakeAdmin
from test.admin.commands import CommandCase


class SlowAdmin(FakeAdmin):
    """
    One whose changes take their time: they end when C{finish} is called.

    @ivar read_only: why nothing can be changed.
    """

    read_only = ""

    def configuration(self) -> Deferred[Configuration]:
        return super().configuration().addCallback(lambda found: evolve(found, writable=self.read_only))

    def change(self, document: dict[str, object], etag: str | None = None) -> Deferred[OperationStatus]:
        def running(status: OperationStatus) -> OperationStatus:
            self.asked_for[-1] = evolve(
                status, state=OperationState.RUNNING, ended=None, sentence="copying", bytes_total=100, bytes_left=60
            )
            return self.asked_for[-1]

        return super().change(document, etag).addCallback(running)

    def finish(self, state: OperationState = OperationState.DONE, sentence: str = "all is as wanted") -> None:
        self.asked_for[-1] = evolve(
            self.asked_for[-1],
            state=state,
            ended=self.time,
            sentence=sentence,
            error_code="no-space" if state is OperationState.FAILED else None,
        )


class ChangeCase(CommandCase):
    """Changes of a cluster that exists only in what it says."""

    def setUp(self) -> None:
        super().setUp()
        self.fake = SlowAdmin()
        self.script = {1: self.finish}

    def finish(self) -> None:
        """What was asked for is done, if anything was."""
        assert isinstance(self.fake, SlowAdmin)
        if self.fake.asked_for:
            self.fake.finish()

    def well(self, *arguments: str, **more: Any) -> Result:
        result = self.dst(*arguments, **more)
        self.assertEqual(0, result.exit_code, result.output)
        return result


class ChangeTests(ChangeCase):
    """How a change goes"""

    def test_told(self) -> None:
        """The plan comes first, then how it goes on, then that it is done."""
        result = self.well("export", "create", "spare", "--yes")
        self.assertIn("add the export spare", result.stderr)
        self.assertIn("... change: copying; 40.0%, 60 B left", result.stderr)
        done, _, heading, state = result.stdout.splitlines()
        self.assertEqual("all is as wanted", done)
        self.assertEqual(["spare", "memory", "64.0", "MiB", "ready"], state.split())
        self.assertEqual({"device": "spare"}, self.fake.document["exports"]["spare"])

    def test_asked(self) -> None:
        """A person is asked, and only a yes is a yes."""
        for answer in ("n\n", ""):
            self.assert_error(self.dst("export", "create", "spare", answer=answer), "nothing was done")
        self.assertNotIn("spare", self.fake.document["exports"])
        self.well("export", "create", "spare", answer="y\n")
        self.assertIn("spare", self.fake.document["exports"])

    def test_script(self) -> None:
        """Where nobody can be asked, what loses nothing is done, and what is destructive wants --yes."""
        self.can_ask = False
        self.well("export", "create", "spare")
        self.assert_error(self.dst("export", "delete", "spare"), "nothing was done")
        self.assertIn("spare", self.fake.document["exports"])
        self.well("export", "delete", "spare", "--yes")
        self.assertNotIn("spare", self.fake.document["exports"])

    def test_plan_only(self) -> None:
        """With --plan nothing is done, whatever else is said."""
        result = self.well("storage", "delete", "vol", "--with-exports", "--plan", "--yes")
        self.assertIn("remove the storage vol", result.stdout)
        self.assertIn("(!)", result.stdout)
        self.assertIn("vol", self.fake.document["storages"])
        self.assertEqual([], self.fake.asked_for)

    def test_nothing_to_do(self) -> None:
        """What is like that already is no operation."""
        self.well("export", "deny", "vol", "--this-machine", "--yes")
        self.assertEqual([], self.fake.asked_for)
        self.assertIn("like that already", self.dst("export", "deny", "vol", "--this-machine").stdout)

    def test_json(self) -> None:
        """For scripts: the plan, and the operation as it has ended; and nothing else."""
        result = self.well("export", "create", "spare", "--yes", "--json")
        self.assertEqual("", result.stderr)
        told = json.loads(result.stdout)
        self.assertEqual((1, "0", False), (told["version"], told["plan"]["etag"], told["plan"]["destructive"]))
        self.assertEqual(["add"], [step["action"] for step in told["plan"]["steps"]])
        self.assertEqual(("done", "all is as wanted"), (told["operation"]["state"], told["operation"]["sentence"]))
        told = json.loads(self.well("export", "create", "a", "--plan", "--json").stdout)
        self.assertEqual(("add", None), (told["plan"]["steps"][0]["action"], told["operation"]))

    def test_no_wait(self) -> None:
        """Whoever does not wait is told how to, later."""
        self.script = {}
        result = self.well("export", "create", "spare", "--yes", "--no-wait")
        self.assertIn("dst operation wait fake-0", result.stdout)
        self.assertEqual(2, self.dst("export", "create", "x", "--wait", "--no-wait").exit_code)

    def test_takes_too_long(self) -> None:
        """Nobody waits for ever; that it goes on has an exit code of its own."""
        self.script = {}
        self.assert_error(self.dst("export", "create", "spare", "--yes", "--timeout", "3"), "goes on", 6)

    def test_failed(self) -> None:
        """An operation that fails is an error with its sentence and its code."""
        assert isinstance(self.fake, SlowAdmin)
        fake = self.fake
        self.script = {1: lambda: fake.finish(OperationState.FAILED, "the disk of d is full")}
        self.assert_error(self.dst("node", "create", "d", "memory:", "--yes"), "the disk of d is full")
        error = json.loads(self.dst("node", "create", "e", "memory:", "--yes", "--json").stderr)["error"]
        self.assertEqual("no-space", error["code"])

    def test_wait_for_the_copies(self) -> None:
        """With --wait it ends when nothing is copied any more, and says what happens meanwhile."""
        self.fake.suspend("vol", "b")
        self.fake.resume("vol", "b")
        self.script = {1: self.finish, 3: self.fake.settle}
        result = self.well("storage", "add", "vol", "spare", "--yes", "--wait")
        self.assertEqual(1, result.stderr.count("... vol/b: full resync, 0%\n"))
        self.assertEqual("in-sync", self.fake.trees[-1].children[1].state)

    def test_read_only(self) -> None:
        """A configuration that cannot be changed says why, after the plan was shown."""
        assert isinstance(self.fake, SlowAdmin)
        self.fake.read_only = "it is a Python script"
        self.assertIn("it is a Python script", self.dst("export", "create", "spare", "--yes").stderr)
        self.assertEqual([], self.fake.asked_for)

    def test_changed_meanwhile(self) -> None:
        """Who was overtaken is told, and nothing is done."""
        fake = self.fake
        planned = fake.plan

        def meanwhile(document: dict[str, object]) -> Deferred[Plan]:
            fake._changes += 1
            return planned(document)

        fake.plan = meanwhile  # type: ignore[method-assign]
        result = self.dst("export", "create", "spare", "--yes")
        self.assertEqual(1, result.exit_code)
        self.assertIn("somebody has changed it", result.stderr)

    def test_refused(self) -> None:
        """What cannot run is refused with every sentence."""
        result = self.dst("export", "create", "x", "nothing", "--yes")
        self.assertEqual(1, result.exit_code)
        self.assertIn("there is no node or storage 'nothing'", result.stderr)


class WantedTests(ChangeCase):
    """What each command makes of the document"""

    def test_nodes(self) -> None:
        """Nodes are made with their settings, and go."""
        self.well("node", "create", "d", "nbd://10.0.0.8/export", "--set", "deadline_s=10", "--yes")
        self.assertEqual({"uri": "nbd://10.0.0.8/export", "deadline_s": 10}, self.fake.document["nodes"]["d"])
        self.well("node", "delete", "d", "--yes")
        self.assertNotIn("d", self.fake.document["nodes"])
        self.assert_error(self.dst("node", "delete", "a", "--yes"), "is used by storage vol")

    def test_storages(self) -> None:
        """A storage is made of nodes that are there or made with it."""
        self.well(
            "storage", "create", "new", "spare", "d=memory:?size=1M", "--witness", "w=memory:", "--set", "freeze_s=5",
            "--export", "--yes",
        )  # fmt: skip
        self.assertEqual(
            {"algorithm": "mirror", "nodes": ["spare", "d"], "witnesses": ["w"], "freeze_s": 5},
            self.fake.document["storages"]["new"],
        )
        self.assertEqual({"uri": "memory:?size=1M"}, self.fake.document["nodes"]["d"])
        self.assertEqual({"device": "new"}, self.fake.document["exports"]["new"])
        self.well("storage", "delete", "new", "--with-exports", "--yes")
        self.assertNotIn("new", self.fake.document["storages"])

    def test_members(self) -> None:
        """Members come and go."""
        self.well("storage", "add", "vol", "d=memory:", "--yes")
        self.assertEqual(["a", "b", "c", "d"], self.fake.document["storages"]["vol"]["nodes"])
        self.well("storage", "remove", "vol", "b", "--delete-node", "--yes")
        self.assertEqual(["a", "c", "d"], self.fake.document["storages"]["vol"]["nodes"])
        self.assertNotIn("b", self.fake.document["nodes"])

    def test_access(self) -> None:
        """Who may use an export is said line by line."""
        self.well("export", "allow", "vol", "--identity", "alpha", "--network", "10.0.0.0/8", "--yes")
        self.assertEqual(
            [{"access": "write", "identity": "alpha", "network": "10.0.0.0/8"}],
            self.fake.document["exports"]["vol"]["allow"],
        )
        self.well("export", "deny", "vol", "--identity", "alpha", "--network", "10.0.0.0/8", "--yes")
        self.assertEqual([], self.fake.document["exports"]["vol"]["allow"])
        self.well("export", "deny", "vol", "--this-machine", "--yes")
        self.assertNotIn("allow", self.fake.document["exports"]["vol"])
        self.assertEqual(2, self.dst("export", "allow", "vol").exit_code)
        self.assertEqual(2, self.dst("export", "deny", "vol", "--nobody", "--identity", "x").exit_code)

    def test_apply(self) -> None:
        """A file becomes true; what is no topology is refused before anything is asked of the daemon."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write('[nodes.only]\nuri = "memory:?size=1M"\n')
        self.assertIn("remove the storage vol", self.well("apply", path, "--plan").stdout)
        self.assertIn("remove the storage vol", self.well("configuration", "plan", path).stdout)
        self.well("apply", path, "--yes")
        self.assertEqual({"nodes": {"only": {"uri": "memory:?size=1M"}}}, self.fake.document)
        asked = len(self.urls)
        with open(path, "w") as file:
            file.write("[nodes")
        self.assert_error(self.dst("apply", path), "is not TOML")
        self.assert_error(self.dst("apply", "/nonexistent.toml"), "cannot be read")
        self.assertEqual(asked, len(self.urls))

    def test_apply_from_a_pipe(self) -> None:
        """The document on standard input is no answer to the question."""
        self.can_ask = False
        text = '[nodes.only]\nuri = "memory:?size=1M"\n'
        self.assert_error(self.dst("apply", "-", answer=text), "nothing was done")
        self.well("apply", "-", "--yes", answer=text)
        self.assertEqual(["only"], list(self.fake.document["nodes"]))

    def test_show(self) -> None:
        """What is shown can be applied, and is the same."""
        shown = self.well("configuration", "show").stdout
        result = self.well("apply", "-", "--yes", answer=shown)
        self.assertIn("like that already", result.stdout)
        told = json.loads(self.well("configuration", "show", "--json").stdout)
        self.assertEqual(("0", self.fake.document), (told["etag"], told["document"]))

    def test_edit(self) -> None:
        """What the editor saves is wanted; what it leaves alone is not touched."""
        script = self.mktemp()
        with open(script, "w") as file:
            file.write('#!/bin/sh\nsed -i "s/read_only = false/read_only = true/; /device/a read_only = true" "$1"\n')
        self.well("configuration", "edit", "--yes", env={"EDITOR": f"sh {script}", "VISUAL": ""})
        self.assertEqual({"device": "vol", "read_only": True}, self.fake.document["exports"]["vol"])
        self.well("configuration", "edit", env={"EDITOR": "true", "VISUAL": ""})


class ListTests(CommandCase):
    """What there is"""

    def setUp(self) -> None:
        super().setUp()
        self.fake.clients = [
            SessionStatus(
                "nbd-1", "nbd", "vol", "127.0.0.1:5", None, False, False, 1_699_999_940.0, 3, Traffic(reads=1)
            ),
            SessionStatus("dst-2", "dst", "other", "10.0.0.7:6", "alpha", True, True, 1_699_999_000.0),
        ]
        self.fake.listening = [ListenerStatus("nbd", "tcp:10809", "0.0.0.0:10809", "required", 2)]

    def cells(self, *arguments: str) -> list[list[str]]:
        result = self.dst(*arguments)
        self.assertEqual((0, ""), (result.exit_code, result.stderr))
        return [line.split() for line in result.stdout.splitlines()]

    def test_nodes(self) -> None:
        """Every node with what it is a member of, also of none."""
        cells = self.cells("node", "list")
        self.assertIn(["a", "memory", "64.0", "MiB", "in-sync", "vol"], cells)
        self.assertIn(["spare", "memory", "64.0", "MiB", "ready"], cells)
        names = [node["name"] for node in json.loads(self.dst("node", "list", "--json").stdout)["nodes"]]
        self.assertEqual(["a", "b", "c", "spare", "x", "y"], names)

    def test_one(self) -> None:
        """One node or storage; an unknown one is suggested."""
        self.assertIn("in-sync", self.dst("node", "show", "a").stdout)
        self.assertEqual("b", json.loads(self.dst("node", "show", "b", "--json").stdout)["node"]["name"])
        self.assertIn("└─ c", self.dst("storage", "show", "vol").stdout)
        self.assert_error(self.dst("node", "show", "vol"), "there is no node 'vol' here")
        self.assert_error(self.dst("storage", "show", "vool"), "did you mean 'vol'?")

    def test_storages(self) -> None:
        """Every storage with its health and members."""
        cells = self.cells("storage", "list")
        self.assertIn(
            ["vol", "mirror", "63.0", "MiB", "healthy", "2", "a", "(in-sync),", "b", "(in-sync),", "c", "(in-sync)"],
            cells,
        )
        told = json.loads(self.dst("storage", "list", "--json").stdout)
        self.assertEqual(["fresh", "vol"], [tree["name"] for tree in told["storages"]])

    def test_exports(self) -> None:
        """Every export; and one with its clients."""
        self.assertIn("vol", self.dst("export", "list").stdout)
        self.assertIn("this machine", self.dst("export", "list").stdout)
        shown = self.dst("export", "show", "vol").stdout
        self.assertIn("nbd-1", shown)
        self.assertNotIn("dst-2", shown)
        told = json.loads(self.dst("export", "show", "vol", "--json").stdout)
        self.assertEqual(("vol", ["nbd-1"]), (told["export"]["name"], [each["id"] for each in told["sessions"]]))
        self.assert_error(self.dst("export", "show", "vool"), "did you mean 'vol'?")

    def test_sessions(self) -> None:
        """Every client, or those of one export; who is cut off is asked for by name."""
        self.assertIn("alpha at 10.0.0.7:6", self.dst("session", "list").stdout)
        told = json.loads(self.dst("session", "list", "--export", "vol", "--json").stdout)
        self.assertEqual(["nbd-1"], [each["id"] for each in told["sessions"]])
        self.assert_error(self.dst("session", "end", "nbd-1", answer="n\n"), "nothing was done")
        self.assertIn("127.0.0.1:5", self.dst("session", "end", "nbd-1", answer="n\n").stderr)
        self.assertEqual(2, len(self.fake.clients))
        self.assertEqual(0, self.dst("session", "end", "nbd-1", "--yes").exit_code)
        self.assertEqual(["dst-2"], [each.id for each in self.fake.clients])
        self.assert_error(self.dst("session", "end", "nbd-1", "--yes"), "there is no session 'nbd-1' here")

    def test_listeners(self) -> None:
        """Where somebody can connect, and whether it is encrypted."""
        self.assertIn(["nbd", "0.0.0.0:10809", "required", "2", "tcp:10809"], self.cells("listener", "list"))

    def test_empty(self) -> None:
        """That there is none is said, with what makes one."""
        self.fake.clients = []
        self.assertEqual("no client is connected\n", self.dst("session", "list").stdout)
        self.assertEqual([], json.loads(self.dst("session", "list", "--json").stdout)["sessions"])

    def test_operations(self) -> None:
        """What was asked for; one of it; and waiting for it."""
        self.dst("suspend", "vol", "b")
        self.fake.asked_for.append(OperationStatus("7-1", "change", "", OperationState.RUNNING, 1_699_999_990.0))
        self.assertIn("7-1", self.dst("operation", "list").stdout)
        self.assertIn("7-1", self.dst("operation", "show", "7-1").stdout)
        running = json.loads(self.dst("operation", "list", "--running", "--json").stdout)["operations"]
        self.assertEqual(["7-1"], [each["id"] for each in running])
        self.assert_error(self.dst("operation", "wait", "7-1", "--timeout", "2"), "goes on", 6)
        done = evolve(self.fake.asked_for[-1], state=OperationState.DONE, ended=1_699_999_995.0)

        def finish() -> None:
            self.fake.asked_for[-1] = done

        self.script = {2: finish}
        self.assertIn("done", self.dst("operation", "wait", "7-1").stdout)
        failed = evolve(done, state=OperationState.FAILED, sentence="no room", error_code="no-space")
        self.fake.asked_for[-1] = failed
        self.assert_error(self.dst("operation", "wait", "7-1"), "no room")
        self.assert_error(self.dst("operation", "show", "9"), "there is no operation")

    def test_events(self) -> None:
        """What happened: the last ones, about something, or from some severity on."""
        for number in range(5):
            self.fake.happen(f"number {number}", subject="vol/b" if number % 2 else "other")
        self.fake.happen("bad", severity=Severity.CRITICAL, code="STORAGE_FAILED")
        self.assertEqual(7, len(self.dst("event", "list").stdout.splitlines()))
        self.assertIn("bad [STORAGE_FAILED]", self.dst("event", "list", "--last", "1").stdout)
        told = json.loads(self.dst("event", "list", "--about", "vol", "--json").stdout)["events"]
        self.assertEqual([2, 4, 6], [each["number"] for each in told])
        told = json.loads(self.dst("event", "list", "--severity", "warning", "--json").stdout)["events"]
        self.assertEqual(["bad"], [each["sentence"] for each in told])
        self.assertEqual(2, self.dst("event", "list", "--after", "5").stdout.count("\n"))

    def test_follow_events(self) -> None:
        """What happens from now on, one line each; a daemon that goes and comes is waited for."""
        self.fake.happen("before")

        def gone() -> None:
            from dst.errors import Unavailable

            self.fake.failing = Unavailable("no daemon answers")

        def back() -> None:
            self.fake.failing = None
            self.fake.happen("after")

        self.script = {1: lambda: self.fake.happen("during"), 3: gone, 5: back}
        result = self.dst("event", "follow", "--json")
        self.assertEqual(0, result.exit_code)
        self.assertEqual(["during", "after"], [json.loads(line)["sentence"] for line in result.stdout.splitlines()])
        self.assertEqual("... no daemon answers; it is tried again\n", result.stderr)

    def test_health(self) -> None:
        """What is not as it should be; for scripts by the exit code, too."""
        self.fake.findings.clear()
        self.fake.findings = []
        self.assertEqual("everything is as it should be\n", self.dst("health", "--exit-code").stdout)
        self.fake.findings = [HealthFinding("SCRUB_OLD", Severity.INFO, "vol", "it was long ago", 0.0)]
        self.assertEqual(0, self.dst("health", "--exit-code").exit_code)
        self.fake.findings.append(
            HealthFinding("STORAGE_DEGRADED", Severity.WARNING, "vol", "vol is degraded", 1_699_999_940.0)
        )
        result = self.dst("health", "--exit-code")
        self.assertEqual(3, result.exit_code)
        self.assertIn("warning   STORAGE_DEGRADED  vol  1 min  vol is degraded", result.stdout)
        told = json.loads(self.dst("health", "--json").stdout)
        self.assertEqual(("warning", 2), (told["worst"], len(told["findings"])))


class StepTests(ChangeCase):
    """A plan is shown as what it costs"""

    def test_shown(self) -> None:
        """Before anything is done."""
        step = PlanStep("replace", "member", "vol/b", "b is copied to new media", True, False, 1 << 30, 120.0)
        self.fake.plan = lambda document: succeed(Plan("0", (step,)))  # type: ignore[method-assign]
        result = self.dst("export", "create", "x", "vol", answer="n\n")
        self.assertIn("1.00 GiB to copy; redundancy is lower for about 2 min", result.stderr)
        self.assertIn("What is marked with (!) gives up data or redundancy.\nGo on?", result.stderr)
        self.assertEqual([], self.fake.asked_for)
