"""The C{dst} command, with a cluster of the test's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from twisted.internet.defer import CancelledError

from dst import __version__
from dst.admin.cli import cli, default_url
from dst.admin.client import DEFAULT_URL, NoDaemon
from dst.admin.tools import Tools
from dst.errors import Denied, MediaError, NotFound, Unavailable
from dst.testing.fake_admin import FakeAdmin
from test.admin.commands import CommandCase


class StatusTests(CommandCase):
    """C{dst status}"""

    def test_tree(self) -> None:
        """Every storage with its members, states and reasons, and the nodes in none."""
        result = self.dst("status")
        self.assertEqual(0, result.exit_code)
        words = [line.split() for line in result.stdout.splitlines()]
        self.assertIn(["vol", "mirror", "63.0", "MiB", "healthy"], words)
        self.assertIn(["├─", "b", "memory", "64.0", "MiB", "in-sync"], words)
        self.assertIn(["└─", "c", "memory", "64.0", "MiB", "in-sync"], words)
        self.assertIn(["spare", "memory", "64.0", "MiB", "ready"], words)
        self.assertIn("not initialised: node x holds data", result.stdout)

    def test_plain(self) -> None:
        """Where the output is no terminal there is no colour and nothing is wrapped."""
        self.fake.suspend("vol", "a")
        result = self.dst("status", env={"COLUMNS": "20"})
        self.assertNotIn("\x1b", result.stdout)
        self.assertIn("holds data and no label: initialise the storage with the data to keep, or", result.stdout)

    def test_one(self) -> None:
        """One storage, if it is named."""
        result = self.dst("status", "vol")
        self.assertIn("vol", result.stdout)
        self.assertNotIn("fresh", result.stdout)

    def test_unknown(self) -> None:
        """One that is not there is an error that says which there are."""
        self.assert_error(self.dst("status", "nothing"), "fresh, spare, vol")

    def test_json(self) -> None:
        """For scripts, the answer of the REST interface."""
        status = json.loads(self.dst("status", "--json").stdout)
        self.assertEqual((1, "frozen"), (status["version"], status["health"]))
        status = json.loads(self.dst("status", "vol", "--json").stdout)
        self.assertEqual(
            ("healthy", ["vol"], []), (status["health"], [status["storages"][0]["name"]], status["nodes"])
        )

    def test_exit_code(self) -> None:
        """With C{--exit-code} it is 3 unless what is shown is healthy."""
        self.assertEqual(0, self.dst("status").exit_code)
        self.assertEqual(3, self.dst("status", "--exit-code").exit_code)
        self.assertEqual(0, self.dst("status", "vol", "--exit-code").exit_code)
        self.fake.suspend("vol", "a")
        self.assertEqual(3, self.dst("status", "vol", "--exit-code").exit_code)
        self.assertEqual(3, self.dst("status", "vol", "--exit-code", "--json").exit_code)

    def test_no_daemon(self) -> None:
        """An error is one sentence and what to do, with exit code 1."""
        self.fake.failing = Unavailable("no daemon answers")
        self.assert_error(self.dst("status"), "error: no daemon answers\n")

    def test_nothing(self) -> None:
        """An empty cluster is said to be one."""
        self.fake.trees = []
        self.assertEqual("the daemon has no storage and no node\n", self.dst("status").stdout)

    def test_url(self) -> None:
        """The daemon is at the usual place, or where the option or the environment says."""
        self.dst("status")
        self.dst("status", env={"DST_URL": "http://a:1"})
        self.dst("--url", "http://b:2", "status", env={"DST_URL": "http://a:1"})
        self.assertEqual([DEFAULT_URL, "http://a:1", "http://b:2"], self.urls)


class WatchTests(CommandCase):
    """C{dst watch}, where the output is no terminal"""

    def test_changes(self) -> None:
        """Every change of a state is one line with its time and reason."""
        self.script = {
            2: lambda: self.fake.suspend("vol", "b"),
            4: lambda: self.fake.resume("vol", "b"),
            6: self.fake.settle,
        }
        result = self.dst("watch", "vol")
        lines = [line.split(" ", 1)[1] for line in result.stdout.splitlines()]
        self.assertEqual(
            [
                "vol: healthy",
                "vol/a: in-sync",
                "vol/b: in-sync",
                "vol/c: in-sync",
                "vol: healthy -> degraded: 1 of 3 members are not in sync",
                "vol/b: in-sync -> suspended: suspended by the operator",
                "vol/b: suspended -> resyncing",
                "vol: degraded -> healthy",
                "vol/b: resyncing -> in-sync",
            ],
            lines,
        )
        self.assertEqual(0, result.exit_code)

    def test_daemon_goes_and_comes(self) -> None:
        """A daemon that was there is waited for."""

        def gone() -> None:
            self.fake.failing = Unavailable("no daemon answers")

        def back() -> None:
            self.fake.failing = None

        self.script = {2: gone, 5: back}
        result = self.dst("watch", "vol")
        self.assertEqual(0, result.exit_code)
        self.assertIn("connection lost, retrying: no daemon answers", result.stdout)

    def test_trouble(self) -> None:
        """A daemon that has no status for a while is not given up either."""

        def trouble() -> None:
            self.fake.failing = MediaError("the disk is gone")

        self.script = {2: trouble}
        result = self.dst("watch")
        self.assertEqual(0, result.exit_code)
        self.assertIn("no status, retrying: the disk is gone", result.stdout)

    def test_never_there(self) -> None:
        """One that was never there is an error."""
        self.fake.failing = Unavailable("no daemon answers")
        self.assert_error(self.dst("watch"), "no daemon answers")

    def test_unknown(self) -> None:
        """So is a storage that is not there."""
        self.assert_error(self.dst("watch", "nothing"), "'nothing'")


class OperationTests(CommandCase):
    """The commands that change something"""

    def test_suspend_and_resume(self) -> None:
        """They say what was done, and what undoes it."""
        result = self.dst("suspend", "vol", "b")
        self.assertEqual((0, ""), (result.exit_code, result.stderr))
        self.assertIn("dst resume vol b", result.stdout)
        self.assertEqual(0, self.dst("resume", "vol", "b").exit_code)
        self.assertEqual([("suspend", "vol", "b"), ("resume", "vol", "b")], self.fake.calls)

    def test_refused(self) -> None:
        """What the cluster refuses is an error with its sentence."""
        self.assert_error(self.dst("resume", "vol", "a"), "node 'a' of 'vol' is not suspended")
        self.assert_error(self.dst("suspend", "nothing", "a"), "there is no storage 'nothing'")

    def test_init(self) -> None:
        """C{init} needs a choice, and passes it on."""
        self.assertEqual(2, self.dst("init", "fresh").exit_code)
        self.assertEqual(2, self.dst("init", "fresh", "--keep", "x", "--discard").exit_code)
        self.assertEqual([], self.fake.calls)
        self.assertEqual(0, self.dst("init", "fresh", "--keep", "x", "--yes").exit_code)
        self.fake = FakeAdmin()
        self.assertEqual(0, self.dst("init", "fresh", "--discard", "--yes").exit_code)
        self.assertEqual([("initialise", "fresh", "", "discard")], self.fake.calls)

    def test_asks(self) -> None:
        """What cannot be undone is asked first, and only a yes is a yes."""
        for arguments in (
            ("init", "fresh", "--keep", "x"),
            ("init", "fresh", "--discard"),
            ("replace", "vol", "b", "memory:"),
            ("mark-dirty", "vol", "b"),
            ("mark-clean", "fresh", "y"),
        ):
            for answer in ("n\n", "\n", ""):
                self.assert_error(self.dst(*arguments, answer=answer), "nothing was done")
            self.assertEqual([], self.fake.calls)
            self.assertEqual(0, self.dst(*arguments, answer="y\n").exit_code, arguments)
            self.assertEqual(1, len(self.fake.calls))
            self.fake = FakeAdmin()
            self.assertEqual(0, self.dst(*arguments, "--yes").exit_code)
            self.assertEqual(1, len(self.fake.calls))
            self.fake = FakeAdmin()

    def test_nobody_to_ask(self) -> None:
        """Without a terminal there is no question: what stands in a pipe is no answer."""
        self.can_ask = False
        self.assert_error(self.dst("init", "fresh", "--keep", "x", answer="y\n"), "nothing was done")
        self.assertEqual([], self.fake.calls)
        self.assertEqual(0, self.dst("init", "fresh", "--keep", "x", "--yes").exit_code)

    def test_json(self) -> None:
        """For scripts, what was done."""
        done = json.loads(self.dst("suspend", "vol", "b", "--json").stdout)
        sentence = done.pop("sentence")
        self.assertEqual({"version": 1, "done": "suspend", "storage": "vol", "node": "b"}, done)
        self.assertIn("is suspended", sentence)

    def test_interrupted(self) -> None:
        """Ctrl-C does not pretend to know what was done."""
        self.fake.waiting = True
        self.assert_error(self.dst("suspend", "vol", "b"), "may or may not have been done")

    def test_interrupted_watch(self) -> None:
        """Ctrl-C is how watching ends."""

        def interrupted(url: str, work: Any) -> Any:
            raise CancelledError

        result = CliRunner().invoke(cli, ["watch"], obj=Tools(interrupted))
        self.assertEqual((0, ""), (result.exit_code, result.output))


class ErrorTests(CommandCase):
    """How scripts learn what went wrong"""

    def error(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """The exit code, and the error in JSON on standard error."""
        result = self.dst(*arguments)
        self.assertEqual("", result.stdout)
        told = json.loads(result.stderr)
        self.assertEqual(1, told["version"])
        self.assertEqual(result.exit_code, told["error"]["exit_code"])
        return result.exit_code, told["error"]

    def test_refused(self) -> None:
        """A refusal has the code that it has in the REST interface."""
        code, error = self.error("suspend", "nothing", "a", "--json")
        self.assertEqual((1, "not-found"), (code, error["code"]))
        self.assertIn("there is no storage 'nothing'", error["cause"])
        self.assertTrue(error["correction"])

    def test_steering(self) -> None:
        """What another machine says does not steer the terminal; a finding is still on a line of its own."""
        self.fake.failing = Unavailable("first\x1b]0;owned\x07\nsecond\u202e\r")
        result = self.dst("status")
        for character in "\x1b\x07\r\u202e":
            self.assertNotIn(character, result.stderr)
        self.assertIn("error: first\N{REPLACEMENT CHARACTER}]0;owned\N{REPLACEMENT CHARACTER}\nsecond", result.stderr)

    def test_no_daemon(self) -> None:
        """That nobody answers has an exit code of its own; a daemon that says "unavailable" has not."""
        self.fake.failing = NoDaemon("no daemon answers")
        code, error = self.error("status", "--json")
        self.assertEqual((5, "no-daemon"), (code, error["code"]))
        self.fake.failing = Unavailable("no member of vol can be reached")
        self.assertEqual(
            (1, "unavailable"), (self.error("status", "--json")[0], self.error("status", "--json")[1]["code"])
        )

    def test_not_allowed(self) -> None:
        """Nor is a lack of rights like any other failure."""
        self.fake.failing = Denied("the role view may not do that")
        code, error = self.error("suspend", "vol", "a", "--json")
        self.assertEqual((4, "denied"), (code, error["code"]))

    def test_older_daemon(self) -> None:
        """What a daemon has never heard of is told apart from what it has not."""
        self.fake.failing = NotFound("there is nothing at this address")
        self.assert_error(self.dst("storage", "history", "vol"), "older than this command")

    def test_usage(self) -> None:
        """A wrong command line is JSON, too, where JSON was asked for."""
        code, error = self.error("suspend", "--json")
        self.assertEqual((2, "usage"), (code, error["code"]))
        self.assertIn("STORAGE", error["cause"])
        self.assertEqual(2, self.error("status", "--json", "--fast")[0])

    def test_did_you_mean(self) -> None:
        """A name that is nearly right is suggested."""
        self.assert_error(self.dst("status", "vool"), "did you mean 'vol'?")
        self.assertIn("status", self.dst("statsu").stderr)


class WhereTests(CommandCase):
    """Where a daemon is looked for"""

    def test_installed(self) -> None:
        """The socket of an installed daemon comes first, if there is one."""
        there = self.mktemp()
        self.assertEqual(DEFAULT_URL, default_url(there))
        Path(there).touch()
        self.assertEqual(f"unix:{there}", default_url(there))


class HelpTests(CommandCase):
    """What the command says of itself"""

    def test_version(self) -> None:
        """C{--version}"""
        self.assertEqual(f"dst, version {__version__}\n", self.dst("--version").stdout)

    def test_help(self) -> None:
        """Every command has help with an example, and the whole lists exit codes."""
        self.assertIn("Exit codes", self.dst("--help").stdout)
        for name in cli.commands:
            result = self.dst(name, "--help")
            self.assertEqual(0, result.exit_code)
            self.assertIn(f"dst {name}", result.stdout)
            self.assertIn("Example", result.stdout)

    def test_wrong_usage(self) -> None:
        """A wrong command line is exit code 2, and nothing is asked of the daemon."""
        for arguments in (("explode",), ("suspend",), ("suspend", "vol"), ("status", "a", "b"), ("status", "--fast")):
            self.assertEqual(2, self.dst(*arguments).exit_code)
        self.assertEqual([], self.urls)


class CheckTests(CommandCase):
    """C{dst check}"""

    GOOD = (
        '[nodes]\na = {uri = "memory:?size=1M"}\nb = {uri = "memory:?size=1M"}\n'
        '[storages.vol]\nalgorithm = "mirror"\nnodes = ["a", "b"]\n'
    )

    def check(self, text: str) -> Result:
        path = self.mktemp() + ".toml"
        with open(path, "w") as file:
            file.write(text)
        self.path = path
        return self.dst("check", path)

    def test_problem(self) -> None:
        """A mistake is shown with its file and line, and is exit code 1."""
        result = self.check(self.GOOD.replace('["a", "b"]', '["a", "zebra"]'))
        self.assertEqual(1, result.exit_code)
        self.assertIn(f"{self.path}:6: ", result.stdout)
        self.assertIn("zebra", result.stdout)
        self.assertIn("error: ", result.stderr)

    def test_fine(self) -> None:
        """A file with no mistake is said to be fine."""
        result = self.check(self.GOOD)
        self.assertEqual((0, f"{self.path} is fine\n"), (result.exit_code, result.output))

    def test_no_file(self) -> None:
        """A file that is not there is an error like any other."""
        result = self.dst("check", "/nonexistent/topology.toml")
        self.assertEqual(1, result.exit_code)
        self.assertIn("/nonexistent/topology.toml", result.output)
