"""A daemon that is watched: its metrics, events and hooks, and Prometheus' own opinion of what is made for it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import treq
from twisted.internet import reactor as global_reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from dst.admin.client import HTTPAdmin
from test.integration.daemon_process import DaemonProcess
from test.integration.debian_tools import needs, run

reactor: Any = global_reactor

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "packaging" / "monitoring" / "dst-alerts.yml"

TOPOLOGY = """
[daemon]
name = "alpha"
state_dir = "state"
admin = "tcp:0:interface=127.0.0.1"
[nodes.a]
uri = "file:a.img?size=8M"
[nodes.b]
uri = "file:b.img?size=8M"
[storages.vol]
algorithm = "mirror"
nodes = ["a", "b"]
[exports.vol]
device = "vol"
[[hooks]]
on = ["health", "daemon"]
command = [{python}, "-c", "import sys; open(sys.argv[1], 'a').write(sys.stdin.read() + chr(10))", {told}]
"""

WAIT_S_MAX = 30.0


class WatchedDaemon(TestCase):
    """One daemon with a mirror and a hook."""

    async def start(self) -> None:
        self.directory = Path(self.mktemp()).absolute() if not hasattr(self, "directory") else self.directory
        self.directory.mkdir(exist_ok=True)
        self.told = self.directory / "told"
        path = self.directory / "dst.toml"
        path.write_text(TOPOLOGY.format(python=json.dumps(sys.executable), told=json.dumps(str(self.told))))
        self.daemon = DaemonProcess(self, "--config", str(path))
        await self.daemon.started
        self.url = f"http://127.0.0.1:{self.daemon.ports['admin']}"
        self.admin = HTTPAdmin.connect(reactor, self.url)

    async def metrics(self) -> str:
        response = await treq.get(f"{self.url}/metrics", persistent=False)
        self.assertEqual(200, response.code)
        self.assertEqual(["text/plain; version=0.0.4; charset=utf-8"], response.headers.getRawHeaders("Content-Type"))
        text: str = await response.text()
        return text

    async def until(self, what: str, condition: Any) -> Any:
        """What C{condition}, a coroutine function, returns when that is something."""
        left = WAIT_S_MAX
        while left > 0:
            found = await condition()
            if found:
                return found
            await deferLater(reactor, 0.1)
            left -= 0.1
        raise AssertionError(f"{what}: not within {WAIT_S_MAX} s; {self.daemon.output[-2000:]}")

    async def codes(self) -> set[str]:
        return {finding.code for finding in await self.admin.health()}

    def hooked(self) -> list[dict[str, Any]]:
        """What the hook was told."""
        if not self.told.exists():
            return []
        return [json.loads(line) for line in self.told.read_text().splitlines() if line.endswith("}")]

    async def test_story(self) -> None:
        """A member is suspended and resumed: findings, metrics, events and the hook agree, over a restart too."""
        await self.start()

        async def well() -> bool:
            return not await self.codes() and 'dst_member_in_sync{node="b",storage="vol"} 1.0' in await self.metrics()

        await self.until("well", well)
        await self.admin.suspend("vol", "b")

        async def last_copy() -> bool:
            return {"LAST_COPY", "STORAGE_DEGRADED", "MEMBER_SUSPENDED"} <= await self.codes()

        await self.until("the last copy", last_copy)

        async def in_metrics() -> bool:
            return (
                'dst_health_finding{code="LAST_COPY",severity="critical",subject="vol"} 1.0' in await self.metrics()
            )

        await self.until("in the metrics", in_metrics)
        await self.admin.resume("vol", "b")
        await self.until("well again", well)
        events = await self.admin.events()
        raised = [(event.code, event.cleared) for event in events if event.kind == "health"]
        self.assertEqual(1, raised.count(("LAST_COPY", False)))
        self.assertEqual(1, raised.count(("LAST_COPY", True)))
        numbers = [event.number for event in events]
        self.assertEqual(list(range(numbers[0], numbers[0] + len(numbers))), numbers)

        async def hook_knows() -> bool:
            return len([each for each in self.hooked() if each["kind"] == "health"]) == len(raised)

        await self.until("the hook was told", hook_knows)
        told = [(each["code"], each["cleared"]) for each in self.hooked() if each["kind"] == "health"]
        self.assertEqual(raised, told)
        await self.daemon.stop()
        self.assertEqual("the daemon stops", self.hooked()[-1]["sentence"])
        await self.start()
        (again, *_) = await self.admin.events(numbers[-1])
        self.assertGreater(again.number, numbers[-1])
        self.assertIn("the daemon has started", again.sentence)
        await self.daemon.stop()

    @needs("promtool")
    async def test_what_prometheus_says(self) -> None:
        """Prometheus' own checker has nothing to say against the metrics of a daemon."""
        await self.start()
        path = self.directory / "metrics"
        path.write_text(await self.metrics())
        said = await run("sh", "-c", f"promtool check metrics < {path}")
        self.assertEqual("", said.strip())
        await self.daemon.stop()


class RulesTests(TestCase):
    """The alert rules, by Prometheus' own tools."""

    @needs("promtool")
    async def test_rules(self) -> None:
        """They can be loaded."""
        self.assertIn("SUCCESS", await run("promtool", "check", "rules", str(RULES)))

    @needs("promtool")
    async def test_alerts(self) -> None:
        """What is critical fires at once and says what it is about; a daemon that is down is one, too."""
        finding = 'dst_health_finding{code="LAST_COPY", severity="critical", subject="vol", instance="alpha"}'
        path = os.path.abspath(self.mktemp())
        with open(path, "w") as file:
            file.write(
                f"""
rule_files: [{RULES}]
evaluation_interval: 10s
tests:
  - interval: 10s
    input_series:
      - series: '{finding}'
        values: '_ _ 1x20 _x60'
      - series: 'up{{job="dst", instance="beta"}}'
        values: '1x3 0x60'
    promql_expr_test:
      - expr: count(ALERTS{{alertname="DSTLastCopy", alertstate="firing", subject="vol"}})
        eval_time: 40s
        exp_samples: [{{labels: '{{}}', value: 1}}]
      - expr: count(ALERTS{{alertname="DSTDown", alertstate="firing", instance="beta", severity="critical"}})
        eval_time: 5m
        exp_samples: [{{labels: '{{}}', value: 1}}]
      - expr: count(ALERTS{{alertname="DSTLastCopy"}})
        eval_time: 14m
        exp_samples: []
"""
            )
        self.assertIn("SUCCESS", await run("promtool", "test", "rules", path))
