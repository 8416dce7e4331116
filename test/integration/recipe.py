"""
Documents that are followed to the letter.

A recipe is a page whose blocks are done in their order, each machine of it in a network namespace of its own, with an
own directory and its own address on one cable: C{alpha} is 192.0.2.1, C{beta} 192.0.2.2, C{gamma} 192.0.2.3.

  - A block with C{:caption: alpha: dst.toml} is that file on that machine.
  - A line C{alpha$ command} is run there; C{$ command} on C{alpha}.  It has to end well.
  - Lines below a command are what it prints, among other things: numbers may be others, and C{...} is anything.
    A command that looks or starts is tried again until it says so, as a person would.
  - C{alpha$ dst ca invite beta} goes on while the next commands are run; C{dst1-...} is the token that it printed.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from attrs import frozen
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import SkipTest, TestCase

from test.integration.cluster import Program
from test.integration.daemon_process import ROOT
from test.integration.debian_tools import run

__all__ = ["MACHINES", "Machines", "follow", "steps_of"]

MACHINES: Final = {"alpha": "192.0.2.1", "beta": "192.0.2.2", "gamma": "192.0.2.3"}

PATIENCE_S: Final = 45.0
"""How long a look is repeated; what is looked for takes seconds."""

PAUSE_S: Final = 0.3

_LOOKS = re.compile(r"(dst|twistd|nbdinfo|test|grep|diff|cmp) ")
"""Commands that may be said again: they look, or start what is there already."""

_CHANGES = re.compile(
    r"dst (ca|join|init|suspend|resume|replace|mark|apply|demo)|dst \w+ (create|delete|add|init|grow)"
)
"""Those of C{dst} that may not."""

_INVITES = re.compile(r"dst ca invite ")
_TOKEN = re.compile(r"dst1-[\w.=-]+")


@frozen
class File:
    """A file to write."""

    machine: str
    name: str
    text: str


@frozen
class Command:
    """A command to run, and what it has to say."""

    machine: str
    line: int
    text: str
    said: tuple[str, ...]


def steps_of(path: Path) -> Iterator[File | Command]:
    """What is to be done, in order."""
    lines = path.read_text().splitlines()
    at = 0
    while at < len(lines):
        directive = re.fullmatch(r"\.\. code-block:: (\w+)", lines[at])
        at += 1
        if directive is None:
            continue
        options = []
        while at < len(lines) and lines[at].startswith("   :"):
            options.append(lines[at].strip())
            at += 1
        first = at
        while at < len(lines) and (lines[at].startswith("   ") or not lines[at].strip()):
            at += 1
        body = [line[3:] for line in lines[first:at]]
        if directive[1] == "console":
            yield from _commands(body, first)
        for option in options:
            named = re.fullmatch(r":caption: (\w+): (\S+)", option)
            if named is not None:
                yield File(named[1], named[2], "\n".join(body).strip("\n") + "\n")


def _commands(body: list[str], first: int) -> Iterator[Command]:
    found: list[tuple[str, int, str, list[str]]] = []
    for number, line in enumerate(body, first + 1):
        prompt = re.match(r"(\w*)\$ ", line)
        if prompt is not None:
            found.append((prompt[1] or "alpha", number, line[prompt.end() :], []))
        elif found and found[-1][2].endswith("\\"):
            machine, number, text, said = found.pop()
            found.append((machine, number, text[:-1].rstrip() + " " + line.strip(), said))
        elif line.strip():
            assert found, f"line {number}: what prints this?"
            found[-1][3].append(line)
    for machine, number, text, said in found:
        yield Command(machine, number, text, tuple(said))


def pattern_of(line: str) -> str:
    """What fits a line that a document shows: other numbers, times and spaces are as good."""
    words = []
    for word in line.split():
        if word == "...":
            words.append(".*")
            continue
        escaped = re.escape(word).replace(r"\.\.\.", ".*")
        escaped = re.sub(r"\d+(\\\.\d+)?", r"\\d+(\\.\\d+)?", escaped)
        words.append(r"(s|min|h)" if word in ("s", "min", "h") else escaped)
    return r"\s+".join(words)


class Machines:
    """Network namespaces with one cable between them; gone at the end of the test, and all that runs there."""

    def __init__(self, case: TestCase, directory: Path) -> None:
        self._case = case
        self.directory = directory
        self._tag = f"dst{os.getpid()}-{os.urandom(3).hex()}"
        self._spaces: list[str] = []

    def space(self, machine: str) -> str:
        """The name of a machine's namespace."""
        return f"{self._tag}-{machine}"

    async def start(self) -> None:
        """All of them."""
        if os.geteuid() != 0 or shutil.which("ip") is None:
            raise SkipTest("several machines on one need root and network namespaces (iproute2)")
        self._case.addCleanup(self._remove)
        try:
            await self._add("cable")
        except AssertionError as error:
            raise SkipTest(f"no network namespace can be had here: {error}") from None
        cable = self.space("cable")
        await run("ip", "-n", cable, "link", "add", "bridge", "type", "bridge")
        await run("ip", "-n", cable, "link", "set", "bridge", "up")
        for machine, address in MACHINES.items():
            await self._add(machine)
            space = self.space(machine)
            peer = f"to-{machine}"
            await run("ip", "-n", cable, "link", "add", peer, "type", "veth", "peer", "name", "eth0", "netns", space)
            await run("ip", "-n", cable, "link", "set", peer, "master", "bridge", "up")
            await run("ip", "-n", space, "address", "add", f"{address}/24", "dev", "eth0")
            await run("ip", "-n", space, "link", "set", "eth0", "up")
            (self.directory / machine).mkdir(parents=True)

    async def _add(self, name: str) -> None:
        await run("ip", "netns", "add", self.space(name))
        self._spaces.append(self.space(name))
        await run("ip", "-n", self.space(name), "link", "set", "lo", "up")

    async def _remove(self) -> None:
        while self._spaces:
            space = self._spaces.pop()
            for pid in (await run("ip", "netns", "pids", space, expect=None)).split():
                if pid.isdigit():
                    try:
                        os.kill(int(pid), signal.SIGKILL)
                    except ProcessLookupError:
                        pass
            await run("ip", "netns", "delete", space, expect=None)

    def run(self, machine: str, command: str) -> Program:
        """A command on a machine, in its directory."""
        programs = str(Path(sys.executable).parent)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DST_")}
        environment |= {
            "PATH": f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": str(ROOT),
            "LC_ALL": "C.UTF-8",
            "COLUMNS": "200",
        }
        place = shlex.quote(str(self.directory / machine))
        # Not `ip netns exec`: what one command mounts, the next one has to see.
        shell = ("nsenter", f"--net=/run/netns/{self.space(machine)}", "bash", "-c", f"cd {place} || exit\n{command}")
        return Program(self._case, *shell, environment=environment)


async def follow(case: TestCase, path: Path, directory: Path) -> float:
    """Do what a document says; @return: how many seconds its commands took."""
    machines = Machines(case, directory)
    await machines.start()
    token = ""
    invitation: Program | None = None
    began = reactor.seconds()
    for step in steps_of(path):
        if isinstance(step, File):
            target = directory / step.machine / step.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(step.text)
            continue
        where = f"{path.name}:{step.line}: {step.machine}$ {step.text}"
        text = step.text.replace("dst1-...", token) if token else step.text
        if _INVITES.match(text):
            if invitation is not None:
                await invitation.success()
            invitation = machines.run(step.machine, text)
            token = await _token_of(invitation, where)
            continue
        await _done(case, machines, step, text, where)
        if invitation is not None and invitation.code is not None:
            case.assertEqual(0, invitation.code, f"{where}\n{invitation.output}")
    if invitation is not None:
        await invitation.success()
    return reactor.seconds() - began


async def _token_of(invitation: Program, where: str) -> str:
    end = reactor.seconds() + PATIENCE_S
    while reactor.seconds() < end and invitation.code is None:
        found = _TOKEN.search(invitation.output)
        if found is not None and invitation.output[found.end() : found.end() + 1]:
            return found[0]
        await deferLater(reactor, PAUSE_S)
    raise AssertionError(f"{where}: no token\n{invitation.output}")


async def _done(case: TestCase, machines: Machines, step: Command, text: str, where: str) -> None:
    again = _LOOKS.match(text) and not _CHANGES.match(text)
    end = reactor.seconds() + PATIENCE_S
    while True:
        program = machines.run(step.machine, text)
        await program.ended
        missing = _missing(step, program)
        if missing is None:
            return
        if not again or reactor.seconds() > end:
            raise AssertionError(f"{where}\n{missing}\nit ended with {program.code} and said:\n{program.output}")
        await deferLater(reactor, PAUSE_S)


def _missing(step: Command, program: Program) -> str | None:
    if program.code != 0:
        return "it has to end with 0"
    at = 0
    lines = program.output.splitlines()
    for line in step.said:
        fits = re.compile(pattern_of(line))
        found = next((number for number in range(at, len(lines)) if fits.search(lines[number])), None)
        if found is None:
            return f"it has to say: {line}"
        at = found + 1
    return None
