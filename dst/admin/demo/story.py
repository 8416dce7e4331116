"""
The story: a mirror of three is made, loaded, loses a node, works on, gets it back, and is whole again.

Everything that has to be true is checked and counted; the story ends early where it cannot go on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from dst.admin.demo.load import BLOCK_BYTES, Load
from dst.admin.demo.stage import NODES, OWNER, Stage
from dst.admin.demo.telling import Teller
from dst.admin.tools import sleep
from dst.errors import DeadlinePassed, DSTError
from dst.status import Health, MemberState, StatusTree
from dst.words import percent_in_words, rate_in_words, size_in_words

if TYPE_CHECKING:
    from rich.text import Text
    from twisted.internet.interfaces import IReactorTime

    from dst.interfaces import IClusterAdmin

__all__ = ["FAST", "SLOW", "Measures", "Story"]

WAIT_S_MAX = 90.0
"""What has not happened by then does not happen: the longest wait in the core is some 30 s."""

COPY_S_MAX = 900.0
"""While something is copied it is waited for longer: a busy machine is slow, and not wrong."""

LOOK_S = 0.1
"""How often is looked whether something has happened."""

COMPARE_BYTES = 1 << 20
"""Of each copy at a time: the screen is drawn and Ctrl-C is heard between two."""

_VICTIM = "b"


@frozen
class Measures:
    """
    How large and how long.

    @ivar node_bytes: of each node's file.
    @ivar window: bytes of the disk that the client writes.
    @ivar load_s: for how long it does before something happens, and while a node is dead.
    @ivar breath_s: time to read what was said.
    """

    node_bytes: int
    window: int
    load_s: float
    breath_s: float


SLOW = Measures(256 << 20, 96 << 20, 6.0, 1.5)
FAST = Measures(64 << 20, 24 << 20, 1.5, 0.0)


@define
class Story:
    """
    One telling of it.
    """

    admin: IClusterAdmin
    clock: IReactorTime
    wall_clock: Callable[[], float]
    stage: Stage
    teller: Teller
    measures: Measures
    seed: int
    _load: Load | None = None
    _tree: StatusTree | None = None
    _below: str = ""
    _rate: tuple[float, int, int] = field(default=(0.0, 0, 0))
    _rates: tuple[float, float] = (0.0, 0.0)

    async def tell(self) -> None:
        """
        All of it.

        @raise DSTError: it cannot go on; why is the sentence.
        """
        await self._raise_the_curtain()
        try:
            await self._work()
            await self._lose_a_node()
            await self._get_it_back()
            await self._look_at_every_block()
        finally:
            if self._load is not None:
                await self._load.close()
        await self._compare_the_copies()
        self.teller.clear()

    # -- the acts

    async def _raise_the_curtain(self) -> None:
        say, stage = self.teller.say, self.stage
        size = size_in_words(self.measures.node_bytes)
        self.teller.act(f"Three nodes, each a daemon with a file of {size}, and a mirror of them")
        say(f"Everything is in {stage.directory}" + ("" if stage.kept else ", until the end") + ".")
        for name in NODES:
            self.teller.command(f"twistd dst --config {name}.toml")
            stage.start(name)
        for name in NODES:
            await self._until(f"node {name} serves", lambda name=name: stage.has_started(name))  # type: ignore[misc]
        self.teller.command(f"twistd dst --config {OWNER}.toml")
        stage.start(OWNER)
        await self._until("the mirror serves", lambda: stage.has_started(OWNER))
        tree = await self._until_tree("the mirror is healthy", lambda tree: _is_whole(tree))
        self.teller.check(
            "healthy",
            True,
            f"vol is healthy: {size_in_words(tree.size)} on {len(NODES)} nodes, any {tree.redundancy} may be lost",
        )
        await self._breathe()

    async def _work(self) -> None:
        tree = await self._look()
        window = size_in_words(self.measures.window)
        self.teller.act("Somebody uses the disk")
        self.teller.say(
            f"A client writes and reads 4 to 64 KiB at a time, all over the first {window} of {self.stage.disk_uri}, "
            "and remembers what must be in every block."
        )
        self._load = load = Load(self.clock, self.stage.disk_uri, tree.size, self.measures.window, self.seed)
        connected: list[object] = []
        load.connect().addBoth(connected.append)
        await self._until("the disk can be used", lambda: load.ready)
        load.begin()
        await self._watch_for(self.measures.load_s)
        self.teller.check(
            "load", load.requests > 0 and not load.errors, f"{self._done_by(load, 0, 0)}, {_complaints(load)}"
        )

    async def _lose_a_node(self) -> None:
        load = self._the_load()
        self.teller.act(f"The process of node {_VICTIM} is killed while all this goes on")
        self.teller.command(f"kill -9 {self.stage.number(_VICTIM)}")
        load.longest_s = 0.0
        requests, byte_count = load.requests, load.byte_count
        killed = self.clock.seconds()
        self.stage.kill(_VICTIM)
        tree = await self._until_tree("the loss is seen", lambda tree: tree.health is not Health.HEALTHY)
        seen_s = self.clock.seconds() - killed
        self.teller.check(
            "degraded",
            tree.health is Health.DEGRADED,
            f"after {_brief(seen_s)} vol is {tree.health.value}: {tree.reason or 'no reason is given'}",
        )
        await self._until_tree(f"{_VICTIM} has left", lambda tree: _state(tree, _VICTIM) == MemberState.ABSENT.value)
        left_s = self.clock.seconds() - killed
        self.teller.say(f"For {_brief(left_s)} the mirror waits for {_VICTIM}; then it goes on with the other two.")
        explained = (await self.admin.explain("vol"))[0]
        if explained.next_step:
            self.teller.say(f"What comes next, as `dst explain vol` says: {explained.next_step}.")
        await self._watch_for(self.measures.load_s)
        self.teller.check(
            "load-goes-on",
            load.requests > requests and not load.errors and not load.wrong,
            f"the client goes on: {self._done_by(load, requests, byte_count)} since, the slowest took "
            f"{_brief(load.longest_s)}; {_complaints(load)}",
        )

    async def _get_it_back(self) -> None:
        load = self._the_load()
        self.teller.act("The node is started again; nobody tells the mirror anything")
        before = await self._look()
        missed = before.dirty_bytes
        self.teller.command(f"twistd dst --config {_VICTIM}.toml")
        load.longest_s = 0.0
        began = self.clock.seconds()
        self.stage.start(_VICTIM)
        await self._until(f"node {_VICTIM} serves", lambda: self.stage.has_started(_VICTIM))
        tree = await self._until_tree("the mirror is healthy again", _is_whole)
        took_s = self.clock.seconds() - began
        records = [record for record in await self.admin.resyncs("vol") if record.member == _VICTIM]
        copied = records[-1].bytes_copied if records else 0
        self.teller.check(
            "healed",
            True,
            f"{_VICTIM} is in sync again, {_brief(took_s)} after its start; it had missed {size_in_words(missed)}",
        )
        self.teller.check(
            "partial",
            bool(records) and records[-1].kind == "partial" and 0 < copied < tree.size,
            f"only what was written meanwhile was copied: {size_in_words(copied)} of {size_in_words(tree.size)}",
        )
        await self._watch_for(self.measures.breath_s)
        await load.end()
        self.teller.check(
            "load-through-resync",
            not load.errors and not load.wrong,
            f"the client worked all the time, the slowest request {_brief(load.longest_s)}: {_complaints(load)}",
        )

    async def _look_at_every_block(self) -> None:
        load = self._the_load()
        self.teller.act("The client reads every block of the disk and compares it with what it remembers")
        written = load.blocks_written
        compared = await load.look_through(lambda done, total: self._bar("read and compared", done, total))
        self._below = ""
        self.teller.check(
            "every-block",
            compared > 0 and not load.wrong,
            f"{_count(compared)} blocks of {BLOCK_BYTES} bytes, {_count(written)} of them written: "
            f"{_count(load.wrong)} wrong",
        )
        await self._breathe()

    async def _compare_the_copies(self) -> None:
        tree = await self._until_tree("everything is the same everywhere", _is_whole)
        self.teller.act("Everything is stopped in order, and the three files are compared")
        for name in (OWNER, *NODES):
            self.stage.ask_to_end(name)
            await self._until(f"{name} has ended", lambda name=name: self.stage.has_ended(name))  # type: ignore[misc]
        self._tree = None
        first, *others = NODES
        for other in others:
            differing = await self._differing_bytes(self.stage.image(first), self.stage.image(other), tree.size)
            self._below = ""
            self.teller.check(
                f"copy-{other}",
                differing == 0,
                f"{first}.img and {other}.img have the same {_count(tree.size)} bytes"
                if differing == 0
                else f"{first}.img and {other}.img differ in {size_in_words(differing)}",
            )

    async def _differing_bytes(self, one: Path, other: Path, size: int) -> int:
        """In whole blocks, up to C{size}: what is behind is each node's own."""
        differing = 0
        with open(one, "rb") as left, open(other, "rb") as right:
            for offset in range(0, size, COMPARE_BYTES):
                length = min(COMPARE_BYTES, size - offset)
                ours, theirs = left.read(length), right.read(length)
                if ours != theirs or len(ours) != length:
                    differing += sum(
                        BLOCK_BYTES
                        for at in range(0, length, BLOCK_BYTES)
                        if ours[at : at + BLOCK_BYTES] != theirs[at : at + BLOCK_BYTES]
                    ) or (length - len(ours))
                self._bar(f"{one.name} and {other.name}", offset + length, size)
                await sleep(self.clock, 0)
        return differing

    # -- waiting

    async def _until(self, what: str, holds: Callable[[], bool]) -> None:
        async def look() -> bool:
            self._draw()
            return holds()

        await self._soon(what, look)

    async def _until_tree(self, what: str, holds: Callable[[StatusTree], bool]) -> StatusTree:
        async def look() -> bool:
            try:
                return holds(await self._look())
            except DSTError:
                return False  # its daemon has only just begun

        await self._soon(what, look)
        assert self._tree is not None
        return self._tree

    async def _soon(self, what: str, look: Callable[[], Awaitable[bool]]) -> None:
        began = self.clock.seconds()
        end = began + WAIT_S_MAX
        left = self._bytes_left()
        while not await look():
            if self._bytes_left() != left:
                left = self._bytes_left()
                end = min(began + COPY_S_MAX, self.clock.seconds() + WAIT_S_MAX)
            if self.clock.seconds() > end:
                waited_s = self.clock.seconds() - began
                raise DeadlinePassed(f"{waited_s:.0f} s have passed and it is not so that {what}{self._how_it_is()}")
            await sleep(self.clock, LOOK_S)

    def _bytes_left(self) -> int:
        trees = () if self._tree is None else self._tree.walk()
        return sum(each.resync.bytes_left for each in trees if each.resync is not None)

    def _how_it_is(self) -> str:
        if self._tree is None:
            return ""
        said = [f"{each.name} is {each.state}: {each.reason or 'no reason is given'}" for each in self._tree.walk()]
        return "; " + "; ".join(said)

    async def _watch_for(self, seconds: float) -> None:
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            try:
                await self._look()
            except DSTError:
                pass  # it is asked again at once, and what has to be true is asked for elsewhere
            await sleep(self.clock, LOOK_S)

    async def _breathe(self) -> None:
        await self._watch_for(self.measures.breath_s)

    async def _look(self) -> StatusTree:
        trees = await self.admin.status()
        self._tree = next(tree for tree in trees if tree.name == "vol")
        self._draw()
        return self._tree

    # -- drawing

    def _bar(self, what: str, done: int, total: int) -> None:
        self._below = f"{what}: {percent_in_words(done, total)} of {size_in_words(total)}"
        self._draw()

    def _draw(self) -> None:
        if not self.teller.animated:
            return
        from rich.text import Text

        from dst.admin.display import status_lines

        lines: list[Text] = []
        if self._tree is not None:
            lines += status_lines(
                [self._tree], now=self.wall_clock(), width=self.teller.width, ascii_only=self.teller.ascii_only
            )
        if self._load is not None and self._load.requests:
            lines += [Text(""), Text(self._load_line(self._load), "magenta")]
        if self._below:
            lines.append(Text(self._below, "cyan"))
        self.teller.show(lines)

    def _load_line(self, load: Load) -> str:
        now = self.clock.seconds()
        since, requests, byte_count = self._rate
        if now - since >= 0.5:
            self._rates = (load.requests - requests) / (now - since), (load.byte_count - byte_count) / (now - since)
            self._rate = now, load.requests, load.byte_count
        return (
            f"client: {self._rates[0]:6.0f} requests/s  {rate_in_words(self._rates[1]):>10}  "
            f"slowest {_brief(load.longest_s)}  {load.wrong} wrong  {len(load.errors)} failed"
        )

    @staticmethod
    def _done_by(load: Load, requests: int, byte_count: int) -> str:
        done, moved = load.requests - requests, load.byte_count - byte_count
        return f"{_count(done)} requests, {size_in_words(moved)}"

    def _the_load(self) -> Load:
        assert self._load is not None
        return self._load


def _is_whole(tree: StatusTree) -> bool:
    """Everything is everywhere, and nothing is left to be done."""
    return (
        tree.health is Health.HEALTHY
        and len(tree.children) == len(NODES)
        and all(child.state == MemberState.IN_SYNC.value for child in tree.children)
        and tree.dirty_bytes == 0
        and tree.detail.get("unreconciled_regions", 0) == 0
    )


def _state(tree: StatusTree, name: str) -> str:
    return next((child.state for child in tree.children if child.name == name), "")


def _complaints(load: Load) -> str:
    if not load.errors and not load.wrong:
        return "no error, nothing wrong"
    first = f" ({load.errors[0]})" if load.errors else ""
    return f"{_count(load.wrong)} blocks wrong, {len(load.errors)} requests failed{first}"


def _brief(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _count(number: int) -> str:
    return f"{number:,}".replace(",", " ")
