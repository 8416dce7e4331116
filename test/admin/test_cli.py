"""The C{dst} command, with a cluster of the test's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from twisted.internet.defer import CancelledError

from dst import __version__
from dst.admin.cli import cli
from dst.admin.client import DEFAULT_URL, NoDaemon
from dst.admin.places import Place, chosen_places, default_places, named, urls_in
from dst.admin.seeing_commands import _screen, _Shown
from dst.admin.tools import Tools
from dst.errors import Denied, InvalidRequest, MediaError, NotFound, Unavailable
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

        def interrupted(asked: object) -> list[Any]:
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
    """Where daemons are looked for"""

    def setUp(self) -> None:
        super().setUp()
        self.directory = Path(self.mktemp())

    def runs(self, name: str = "") -> str:
        """A daemon of that unit has made its socket; its URL."""
        socket = self.directory / name / "admin.sock"
        socket.parent.mkdir(parents=True, exist_ok=True)
        socket.touch()
        return f"unix:{socket}"

    def test_nobody(self) -> None:
        """Where none is installed, a daemon is looked for at the usual port."""
        self.assertEqual((Place(DEFAULT_URL, DEFAULT_URL),), default_places(str(self.directory)))
        (self.directory / "not_started").mkdir(parents=True)
        self.assertEqual((Place(DEFAULT_URL, DEFAULT_URL),), default_places(str(self.directory)))

    def test_installed(self) -> None:
        """The socket of an installed daemon comes first, if there is one; then those of the others by name."""
        web, mail = self.runs("web"), self.runs("mail")
        self.runs("no unit")
        others = (Place("mail", mail), Place("web", web))
        self.assertEqual(others, default_places(str(self.directory)))
        self.assertEqual((Place("dst", self.runs()), *others), default_places(str(self.directory)))

    def test_named(self) -> None:
        """One is named as its unit is, whether it runs or not; what can be no unit is refused."""
        self.assertEqual(Place("web", "unix:/run/dst/web/admin.sock"), named("web"))
        self.assertEqual(Place("dst", "unix:/run/dst/admin.sock"), named("dst"))
        for name in ("", ".", "..", "a/b", "../x", "a b", "a\n"):
            self.assertRaises(InvalidRequest, named, name)

    def test_chosen(self) -> None:
        """What a person says is what is asked, in this order and each once."""
        chosen = chosen_places(["http://b:1", "unix:/run/dst/web/admin.sock", "http://b:1"], ["web"])
        self.assertEqual(["web", "http://b:1"], [place.name for place in chosen])

    def test_environment(self) -> None:
        """White space separates URLs in the environment, unless it belongs to a path."""
        self.assertEqual([], urls_in("  "))
        self.assertEqual(["unix:/a b/c.sock", "http://d:1"], urls_in("unix:/a b/c.sock\n http://d:1 "))

    def test_command_line_before_environment(self) -> None:
        """What the command line says is asked, not what the environment says besides, be it the other option."""
        self.dst("--daemon", "web", "health", env={"DST_URL": "http://a:1", "DST_DAEMON": "mail"})
        self.dst("-d", "dst", "health", env={"DST_URL": "http://a:1"})
        self.dst("health", env={"DST_DAEMON": "mail"})
        self.assertEqual(
            [f"unix:/run/dst/{place}admin.sock" for place in ("web/", "", "mail/")],
            self.urls,
        )

    def test_bad_name(self) -> None:
        """A daemon that cannot be called so is a wrong command line."""
        result = self.dst("--daemon", "../x", "status")
        self.assertEqual(2, result.exit_code)
        self.assertIn("'../x' cannot be the name of a daemon", result.stderr)


class SeveralTests(CommandCase):
    """Several daemons at once"""

    def setUp(self) -> None:
        super().setUp()
        self.fakes = {"http://a:1": FakeAdmin(), "http://b:2": FakeAdmin()}
        self.other = self.fakes["http://b:2"]
        self.other.trees = [tree for tree in self.other.trees if tree.name == "spare"]

    def both(self, *arguments: str) -> Result:
        return self.dst("--url", "http://a:1", "--url", "http://b:2", *arguments)

    def test_status(self) -> None:
        """Each is shown under its name, as it would be alone."""
        alone = [self.dst("--url", url, "status").stdout for url in self.fakes]
        self.assertEqual(f"# http://a:1\n{alone[0]}\n# http://b:2\n{alone[1]}", self.both("status").stdout)

    def test_json(self) -> None:
        """For scripts each is what it would be alone, with its name and place."""
        told = json.loads(self.both("status", "--json").stdout)
        self.assertEqual(["http://a:1", "http://b:2"], [each["daemon"] for each in told["daemons"]])
        alone = json.loads(self.dst("--url", "http://a:1", "status", "--json").stdout)
        self.assertEqual({"daemon": "http://a:1", "url": "http://a:1", **alone}, told["daemons"][0])

    def test_every_list(self) -> None:
        """So is whatever only looks."""
        for words in (
            ("health",),
            ("explain",),
            ("node", "list"),
            ("storage", "list"),
            ("export", "list"),
            ("session", "list"),
            ("listener", "list"),
            ("operation", "list"),
            ("event", "list"),
        ):
            shown = self.both(*words)
            self.assertEqual((0, ""), (shown.exit_code, shown.stderr), words)
            self.assertEqual(2, shown.stdout.count("# http://"), words)
            told = json.loads(self.both(*words, "--json").stdout)
            self.assertEqual(["http://a:1", "http://b:2"], [each["url"] for each in told["daemons"]], words)

    def test_named(self) -> None:
        """What only one of them has is shown of that one; what none has is an error."""
        for words in (("status", "vol"), ("explain", "vol")):
            shown = self.both(*words)
            self.assertEqual((0, ""), (shown.exit_code, shown.stderr))
            self.assertIn("# http://a:1", shown.stdout)
            self.assertNotIn("# http://b:2", shown.stdout)
        self.assert_error(self.both("status", "nothing"), "'nothing'")
        self.assert_error(self.both("explain", "nothing"), "'nothing'")

    def test_one_is_silent(self) -> None:
        """One that fails hides no other, and decides how the command ends."""
        self.fakes["http://a:1"].failing = NoDaemon("no daemon answers at http://a:1")
        shown = self.both("status", "--exit-code")
        self.assertEqual(5, shown.exit_code)
        self.assertIn("error: no daemon answers at http://a:1", shown.stderr)
        self.assertIn("spare", shown.stdout)
        told = json.loads(self.both("status", "--json").stdout)
        self.assertEqual("no-daemon", told["daemons"][0]["error"]["code"])
        self.assertEqual("healthy", told["daemons"][1]["health"])

    def test_exit_code(self) -> None:
        """It is 3 if anything that is shown is not healthy, in whichever daemon."""
        self.assertEqual(3, self.both("status", "--exit-code").exit_code)
        self.fakes["http://a:1"].trees = list(self.other.trees)
        self.assertEqual(0, self.both("status", "--exit-code").exit_code)
        self.other.failing = Denied("you may not look")
        self.assertEqual(4, self.both("status", "--exit-code").exit_code)

    def test_what_is_about_one(self) -> None:
        """What changes something, or is about a whole daemon, is for one; nothing is done before that is said."""
        for words in (("suspend", "vol", "b"), ("export", "create", "vol"), ("configuration", "show")):
            result = self.both(*words)
            self.assert_error(result, "several daemons could be asked (http://a:1, http://b:2)", 2)
        self.assertEqual([], self.urls)
        self.assertEqual([], self.fakes["http://a:1"].calls)

    def test_watch(self) -> None:
        """Each is followed; one that is silent is tried again, also if it has never answered, and hides no other."""

        def back() -> None:
            self.fakes["http://a:1"].failing = None

        self.fakes["http://a:1"].failing = NoDaemon("no daemon answers")
        self.script = {3: back, 6: lambda: self.fakes["http://a:1"].suspend("vol", "b")}
        result = self.both("watch")
        self.assertEqual((0, ""), (result.exit_code, result.stderr))
        lines = [line.split(" ", 1)[1] for line in result.stdout.splitlines()]
        self.assertEqual(
            ["http://a:1: connection lost, retrying: no daemon answers", "http://b:2: spare: ready"], lines[:2]
        )
        self.assertIn("http://a:1: vol: healthy", lines)
        self.assertIn("http://a:1: vol/b: in-sync -> suspended: suspended by the operator", lines)

    def test_watch_on_a_screen(self) -> None:
        """There each stands under its name, with what was known last of one that is lost."""
        from rich.console import Console

        screen = Console(force_terminal=True, width=100)
        web = Place("web", "unix:/run/dst/web/admin.sock")
        shown = {web: _Shown(list(self.other.trees)), Place("http://b:2", "http://b:2"): _Shown()}

        def drawn(storage: str | None = None) -> list[str]:
            return [line.plain.split("  ")[0] for line in _screen(shown, storage, screen, 1_700_000_000.0)]

        self.assertEqual(["# web", "NAME", "spare", "", "# http://b:2"], drawn())
        shown[web].lost = "connection lost"
        self.assertEqual(
            ["# web", "connection lost", "the last that is known:", "NAME", "spare", "", "# http://b:2"], drawn()
        )
        shown[web] = _Shown([])
        self.assertEqual([""], drawn("vol"))
        shown[Place("http://b:2", "http://b:2")] = _Shown([])
        self.assertEqual(["no daemon here has 'vol' at the top of its tree"], drawn("vol"))

    def test_event_follow(self) -> None:
        """What happens is told with the name of the daemon it happened in."""
        self.script = {2: lambda: self.other.happen("it was looked at")}
        (line,) = self.both("event", "follow").stdout.splitlines()
        self.assertTrue(line.startswith("http://b:2: "), line)
        self.assertIn("it was looked at", line)
        (told,) = self.both("event", "follow", "--json").stdout.splitlines()
        self.assertEqual(("http://b:2", "vol"), (json.loads(told)["daemon"], json.loads(told)["subject"]))

    def test_interrupted(self) -> None:
        """Ctrl-C ends waiting for them."""

        def interrupted(asked: object) -> list[Any]:
            raise CancelledError

        urls = ["--url", "http://a:1", "--url", "http://b:2"]
        result = CliRunner().invoke(cli, [*urls, "health"], obj=Tools(interrupted))
        self.assertEqual(1, result.exit_code)
        self.assertIn("interrupted", result.stderr)


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
