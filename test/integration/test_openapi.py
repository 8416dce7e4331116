"""
The REST interface against its own description, by a program that knows nothing else of it.

schemathesis reads C{/v1/openapi.json} of a daemon that runs, and asks for everything in it in every way it can think
of: examples, edges of every type, what must not be accepted, wrong methods, requests that follow from answers.  No
answer may be a server's mistake, and every one has to be as described.

C{DST_OPENAPI_SECONDS} is how long it tries (60), C{DST_OPENAPI_SEED} where its chance begins; without it, it tries
the same each time.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from twisted.trial.unittest import TestCase

from test.integration.cluster import Program, free_ports
from test.integration.daemon_process import DaemonProcess
from test.integration.debian_tools import ENVIRONMENT

SECONDS = int(os.environ.get("DST_OPENAPI_SECONDS", "60"))
SEED = os.environ.get("DST_OPENAPI_SEED")
CHANCE = ("--generation-deterministic",) if SEED is None else ("--seed", SEED, "--generation-database", "none")
EXAMPLES = 5 if SECONDS <= 90 else 50

TOPOLOGY = """
[daemon]
state_dir = "state"
admin = "tcp:{admin}:interface=127.0.0.1"
[listeners]
nbd = "tcp:{nbd}:interface=127.0.0.1"
[nodes.a]
uri = "memory:?size=8M"
[nodes.b]
uri = "memory:?size=8M"
[nodes.spare]
uri = "memory:?size=8M"
[storages.vol]
algorithm = "mirror"
nodes = ["a", "b"]
[exports.vol]
device = "vol"
"""

SETTINGS = """
[checks.not_a_server_error]
# These are about the storage, which it may have made unusable; 500 is a mistake.
expected-statuses = ["2xx", "3xx", "4xx", "501", "503", "504", "507"]
[checks.positive_data_acceptance]
# What is well formed can still be about a configuration that is another one by now, or mean nothing now.
expected-statuses = ["2xx", "3xx", "400", "401", "403", "404", "409", "412", "429", "5xx"]
[checks.missing_required_header]
# RFC 6585 has a status of its own for a change that does not say what it changes.
expected-statuses = ["400", "401", "403", "404", "406", "415", "422", "428"]
"""


class DescriptionTests(TestCase):
    """The daemon does what its description says."""

    timeout = SECONDS + 120.0
    if importlib.util.find_spec("schemathesis") is None:
        skip = "schemathesis is not installed: pip install -e '.[test]'"

    async def test_conforms(self) -> None:
        """Whatever is asked, no answer is a mistake of the server, and every answer is as described."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        admin, nbd = free_ports(2)
        topology = directory / "dst.toml"
        topology.write_text(TOPOLOGY.format(admin=admin, nbd=nbd))
        settings = directory / "schemathesis.toml"
        settings.write_text(SETTINGS)
        daemon = DaemonProcess(self, "--config", str(topology))
        await daemon.started
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(settings), "run"),
            f"http://127.0.0.1:{admin}/v1/openapi.json",
            *("--no-color", *CHANCE),
            *("--max-examples", str(EXAMPLES), "--max-time", str(SECONDS), "--continue-on-failure"),
            *("--request-timeout", "20", "--header", "Prefer: respond-async, wait=1", "--warnings", "off"),
        ]
        environment = {**os.environ, **ENVIRONMENT}
        output = await Program(self, *command, environment=environment).success()
        self.assertIn("Selected: ", output)
        self.assertNotIn("Traceback", daemon.output)
        await daemon.stop()
