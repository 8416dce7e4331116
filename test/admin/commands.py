"""A fixture: the C{dst} command against a cluster that exists only in what it says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from click.testing import CliRunner, Result
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dst.admin.cli import cli
from dst.admin.tools import Tools
from dst.errors import DSTError
from dst.testing.fake_admin import FakeAdmin

__all__ = ["CommandCase"]


class CommandCase(SynchronousTestCase):
    """
    Commands against a fake cluster; the clock advances until a command ends, or C{patience_s} have passed.

    @ivar fakes: of the daemons at other URLs.
    @ivar script: what happens in which second.
    @ivar can_ask: whether there is a terminal with a person.
    """

    patience_s = 10
    can_ask = True

    def setUp(self) -> None:
        self.clock = Clock()
        self.fake = FakeAdmin()
        self.fakes: dict[str, FakeAdmin] = {}
        self.urls: list[str] = []
        self.script: dict[int, Any] = {}

    def run_work(self, asked: Sequence[tuple[str, Any]]) -> list[Any]:
        """All at once, as the command does it."""
        results: list[Any] = [None] * len(asked)
        running = []

        def note(result: Any, index: int) -> None:
            left.discard(index)
            results[index] = result

        left = set(range(len(asked)))
        for index, (url, work) in enumerate(asked):
            self.urls.append(url)
            running.append(Deferred.fromCoroutine(work(self.fakes.get(url, self.fake), self.clock)))
            running[-1].addBoth(note, index)
        for second in range(self.patience_s):
            if not left:
                break
            self.script.get(second, lambda: None)()
            self.clock.advance(1)
        else:
            for index in tuple(left):
                running[index].cancel()
        self.assertEqual([], self.clock.getDelayedCalls(), "nothing is left when a command ends")
        for index, result in enumerate(results):
            if isinstance(result, Failure):
                if not result.check(DSTError):
                    raise result.value
                results[index] = result.value
        return results

    def dst(self, *arguments: str, answer: str = "", env: dict[str, str] | None = None) -> Result:
        tools = Tools(self.run_work, lambda: 1_700_000_000.0, can_ask=lambda: self.can_ask)
        result = CliRunner().invoke(cli, arguments, input=answer, obj=tools, env=env or {})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def assert_error(self, result: Result, sentence: str, exit_code: int = 1) -> None:
        """It failed, said why and what to do on standard error, and nothing else on standard output."""
        self.assertEqual((exit_code, ""), (result.exit_code, result.stdout))
        self.assertIn(sentence, result.stderr)
        lines = result.stderr.strip().splitlines()
        self.assertTrue(lines[-2].startswith("error: "), lines)
        self.assertTrue(lines[-1].startswith("  try: "), lines)
