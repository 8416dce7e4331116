"""
All that can become of two or three members within a small scope, as the verdict tables see it.

An abstract executor: no time, no bytes, no wire. A copy holds a set of writes; a record is on media or not; nodes
promise themselves to one daemon at a time. What daemons do is what the tables say, asked with the production code;
what happens to them, to nodes and to media is everything that can. What is promised is judged from the writes, not
from records.

A daemon that starts sees some of the nodes; another one that serves is cut off from those for longer than its lease,
so it keeps the rest only. Every choice of those nodes is a step of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations

from attrs import evolve, frozen

from dst.label.format import Claim, Epoch, FoundLabel, Label, MemberEntry, Record, Vote
from dst.label.lineage import Lineage, forced_ancestry, lineage
from dst.label.verdict import (
    AssemblyInputs,
    AssemblyStep,
    AssemblyVerdict,
    ClaimStep,
    MemberInputs,
    MemberStep,
    judge_assembly,
    judge_claim,
    judge_member,
)
from dst.label.votes import has_quorum
from dst.ownership import Promise

__all__ = ["Broken", "Daemon", "Holder", "Scope", "SmallWorld", "State"]

STORAGE = b"S" * 16
SIZE = 1 << 20
_NO_FENCE = bytes(16)


class Broken(Exception):
    """A promise was broken; its name, and the steps that led there."""

    def __init__(self, promise: str, steps: tuple[str, ...], detail: object = "") -> None:
        super().__init__(f"{promise}: {'; '.join(steps)} {detail}")
        self.promise = promise
        self.steps = steps


@frozen
class Scope:
    """How much is tried."""

    members: int = 2
    witnesses: int = 1
    own_store: bool = False
    writes: int = 2
    faults: int = 2
    starts: int = 2
    forces: int = 0


@frozen(cache_hash=True)
class Holder:
    """
    One node with its media.

    @ivar record: on its label.
    @ivar has: the writes it holds; C{stable}: those of them that a power cut leaves.
    @ivar claim: the number of the highest claim that it has granted.
    """

    record: Record
    has: frozenset[int] = frozenset()
    stable: frozenset[int] = frozenset()
    power: int = 0
    claim: int = 1


@frozen(cache_hash=True)
class Daemon:
    """
    @ivar serves: the record under which it does; C{None} while it does not.
    @ivar kept: in its own store.
    @ivar reach: nodes that are promised to it.
    """

    serves: Record | None = None
    kept: Record | None = None
    reach: frozenset[int] = frozenset()


@frozen
class Truth:
    """What the users of one line were told."""

    acked: frozenset[int] = frozenset()
    flushed: frozenset[int] = frozenset()


@frozen(cache_hash=True)
class State:
    """One moment; C{left} is how much of the scope is not used up."""

    holders: tuple[Holder, ...]
    daemons: tuple[Daemon, ...]
    truths: tuple[tuple[object, Truth], ...]
    claims: int
    left: Scope

    def truth(self, record: Record) -> Truth:
        """Of the line that C{record} belongs to."""
        return dict(self.truths).get(record.ancestry, Truth())

    def with_truth(self, record: Record, truth: Truth) -> State:
        """Its users were told more."""
        return evolve(self, truths=tuple({**dict(self.truths), record.ancestry: truth}.items()))

    def with_holder(self, n: int, holder: Holder) -> State:
        """One node has changed."""
        return evolve(self, holders=(*self.holders[:n], holder, *self.holders[n + 1 :]))

    def with_daemon(self, n: int, daemon: Daemon) -> State:
        """One daemon has changed."""
        return evolve(self, daemons=(*self.daemons[:n], daemon, *self.daemons[n + 1 :]))

    def spend(self, what: str) -> State:
        """Something was used up."""
        return evolve(self, left=evolve(self.left, **{what: getattr(self.left, what) - 1}))


def _subsets(items: range) -> Iterator[frozenset[int]]:
    for count in range(1, len(items) + 1):
        yield from map(frozenset, combinations(items, count))


class SmallWorld:
    """
    Every state that can be reached within a scope.

    @ivar states: how many there were; C{served}: how many starts have led to service.
    """

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.members = range(scope.members)
        self.holders = range(scope.members + scope.witnesses)
        self.names = [*"abc"[: scope.members], *"w"[: scope.witnesses]]
        self.ids = [bytes([n + 1]) * 16 for n in self.holders]
        self.fences = [bytes([n + 0x11]) * 16 for n in self.holders]
        self.owners = [bytes([n + 0x21]) * 16 for n in range(2)]
        self.states = 0
        self.served = 0
        self._judged: dict[object, AssemblyVerdict | None] = {}

    # -- values

    def first(self) -> State:
        """Everybody is in sync, the first daemon serves, the second is there."""
        entries = tuple(MemberEntry(self.ids[n], bytes([0]) * 16, n, self.names[n]) for n in self.members)
        votes = tuple(Vote(self.ids[n], self.fences[n], self.names[n]) for n in self.holders)
        if self.scope.own_store:
            votes = (Vote(self.owners[0], _NO_FENCE, "own"),)
        record = Record(Claim(1, 1, self.owners[0]), 1, b"i" * 16, entries, votes=votes)
        holders = tuple(Holder(record) for _ in self.holders)
        first = Daemon(record, record, frozenset(self.holders))
        return State(holders, (first, Daemon()), (((), Truth()),), 1, self.scope)

    def label(self, n: int, record: Record) -> Label:
        """What stands on the media of a node with that record."""
        size = SIZE if n in self.members else 0
        return Label(
            1, STORAGE, self.ids[n], "mirror", n, True, Epoch(1, 1), 2 * SIZE, SIZE, size, 1 << 16, 0, record
        )

    def in_sync(self, record: Record) -> frozenset[int]:
        """Numbers of the members in sync."""
        return frozenset(self.ids.index(entry.node_id) for entry in record.in_sync)

    def votes(self, nodes: frozenset[int], daemon: int, kept: bool) -> frozenset[tuple[bytes, bytes]]:
        """The votes of these nodes, and that of the daemon's own store."""
        own = {(self.owners[daemon], _NO_FENCE)} if kept else set()
        return frozenset({(self.ids[n], self.fences[n]) for n in nodes} | own)

    def quorum(self, record: Record, nodes: frozenset[int], daemon: int) -> bool:
        """These nodes and the daemon's store can keep a record after C{record}."""
        return has_quorum(record.votes, self.votes(nodes, daemon, True))

    def serving(self, state: State, n: int) -> bool:
        """The daemon serves, and its lease runs."""
        daemon = state.daemons[n]
        record = daemon.serves
        if record is None or not self.in_sync(record) & daemon.reach:
            return False
        return self.quorum(record, daemon.reach, n)

    # -- asking the tables

    def inputs(self, state: State, n: int, seen: frozenset[int], **more: object) -> AssemblyInputs:
        """What daemon C{n} knows when it sees these nodes."""
        daemon = state.daemons[n]
        labels = {m: FoundLabel(self.label(m, state.holders[m].record), 0) for m in sorted(seen)}
        kept = daemon.kept
        return AssemblyInputs(
            tuple(self.names[m] for m in self.members),
            {self.names[m]: found for m, found in labels.items() if m in self.members},
            {self.names[m]: bytes([state.holders[m].power]) * 16 for m in labels if m in self.members},
            None if kept is None else self.label(0, kept).evolve(node_id=self.owners[n]),
            waited=True,
            witnesses={self.names[m]: found for m, found in labels.items() if m not in self.members},
            promises={self.names[m]: Promise(self.fences[m]) for m in labels},
            owner=self.owners[n],
            **more,  # type: ignore[arg-type]
        )

    def judge(
        self, state: State, n: int, seen: frozenset[int], granted: frozenset[int], forced: str = ""
    ) -> AssemblyVerdict | None:
        """What the daemon does when it sees and is granted these; C{None} when it claims nothing."""
        holders = tuple((m, state.holders[m].record, state.holders[m].power) for m in sorted(seen))
        key = (n, holders, granted, state.daemons[n].kept, forced)
        if key not in self._judged:
            before = self.inputs(state, n, seen, forced=forced)
            after: AssemblyVerdict | None = None
            if judge_claim(before).step is ClaimStep.CLAIM:
                after = judge_assembly(self.claimed(before, state, n, granted))
            if seen == granted:
                self._courteous(before, after)
            if after is not None:
                self._honest(before, after, granted, self.claimed(before, state, n, granted))
            self._judged[key] = after
        return self._judged[key]

    def claimed(self, before: AssemblyInputs, state: State, n: int, granted: frozenset[int]) -> AssemblyInputs:
        """The same, when these were granted."""
        return evolve(
            before,
            claim=Claim(before.data.number_max + 1, 9, self.owners[n]),
            granted=self.votes(granted, n, state.daemons[n].kept is not None),
            claimed=frozenset(self.names[m] for m in granted if m in self.members),
        )

    def _courteous(self, before: AssemblyInputs, after: AssemblyVerdict | None) -> None:
        """Nobody is kept from serving, or asked, in vain."""
        looks = judge_assembly(before)
        if after is not None and after.step is not AssemblyStep.SERVE:
            raise Broken("a claim is followed by service", (), after)
        if looks.step is AssemblyStep.ASK and judge_claim(before).step is not ClaimStep.LOOK:
            raise Broken("who has to be asked is asked", (), looks)
        everything = len(before.found) + len(before.witnesses) == len(self.holders)
        if after is None and everything and before.data.lines == 1:
            raise Broken("what is all there is served", (), looks)
        if after is None and before.forced:
            raise Broken("a person can go on", (), judge_claim(before))
        if before.forced:
            return
        other = b"o" * 16
        held = {name: Promise(each.fence, Claim(99, 1, other), False, 1.0) for name, each in before.promises.items()}
        released = {name: evolve(each, released=True, held_s=0.0) for name, each in held.items()}
        for promises, more in (
            (held, {"wanted": True}),
            (released, {"standby": True}),
            (released, {"handed_to": "another daemon"}),
        ):
            if judge_claim(evolve(before, promises=promises, **more)).step is ClaimStep.CLAIM:
                raise Broken("another owner has the first word", (), more)
        early = judge_assembly(evolve(before, waited=False))
        if before.data.source_names and early.step is AssemblyStep.SERVE:
            raise Broken("copies that may come are given time", (), looks)

    def _honest(
        self, before: AssemblyInputs, after: AssemblyVerdict, granted: frozenset[int], claimed: AssemblyInputs
    ) -> None:
        """What is said and done after the grants."""
        names = {self.names[m] for m in granted}
        if after.step is AssemblyStep.SERVE:
            if not after.sources or not set(after.sources) <= names:
                raise Broken("only what is claimed is used", (), after)
            if before.forced and after.sources != (before.forced,):
                raise Broken("a person's word counts", (), after)
            again = judge_assembly(evolve(claimed, claim=Claim(before.data.number_max, 9, b"z" * 16)))
            if again.step is AssemblyStep.SERVE:
                raise Broken("a claim is above all that was seen", (), again)
            whole = not before.data.source_names and len(before.data.retained) == len(before.data.sources)
            if after.row == "some-sources-retained" and whole and set(after.sources) == set(before.data.sources):
                raise Broken("it is said whether somebody is missing", (), after)
            if after.lost_cache and set(before.data.retained) & names and not before.forced:
                raise Broken("nobody is told of a loss that was none", (), after)
        elif after.step is not AssemblyStep.CLAIM_AGAIN:
            raise Broken("what was claimed in vain is given back", (), after)

    # -- steps

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        """Everything that can happen next."""
        for n in range(2):
            if state.daemons[n].serves is not None:
                yield from self._of_service(state, n)
            elif state.left.starts:
                yield from self._starts(state.spend("starts"), n)
        if state.left.faults:
            for m in self.members:
                yield f"power {self.names[m]}", self._power(state.spend("faults"), m)

    def _power(self, state: State, m: int) -> State:
        holder = state.holders[m]
        state = state.with_holder(m, evolve(holder, has=holder.stable, power=holder.power + 1))
        for n, daemon in enumerate(state.daemons):
            state = state.with_daemon(n, evolve(daemon, reach=daemon.reach - {m}))
        return state

    def _of_service(self, state: State, n: int) -> Iterator[tuple[str, State]]:
        daemon = state.daemons[n]
        record = daemon.serves
        assert record is not None
        down = evolve(daemon, serves=None, reach=frozenset())
        if state.left.faults:
            yield f"crash {n}", state.spend("faults").with_daemon(n, down)
            for m in daemon.reach:
                lost = evolve(daemon, reach=daemon.reach - {m})
                yield f"{n} loses {self.names[m]}", state.spend("faults").with_daemon(n, lost)
        if not self.serving(state, n):
            return
        in_sync = self.in_sync(record)
        if in_sync <= daemon.reach:
            truth = state.truth(record)
            if state.left.writes:
                write = state.left.writes
                written = state.spend("writes")
                for m in in_sync:
                    written = written.with_holder(m, evolve(written.holders[m], has=written.holders[m].has | {write}))
                yield f"{n} writes", written.with_truth(record, evolve(truth, acked=truth.acked | {write}))
            if truth.acked != truth.flushed:
                flushed = state
                for m in in_sync:
                    flushed = flushed.with_holder(m, evolve(flushed.holders[m], stable=flushed.holders[m].has))
                yield f"{n} flushes", flushed.with_truth(record, evolve(truth, flushed=truth.acked))
        elif in_sync & daemon.reach:
            yield from self._record(state, n, in_sync & daemon.reach, "without those it lost")
        for m in self.members:
            if m not in in_sync:
                yield from self._returns(state, n, m)

    def _record(self, state: State, n: int, in_sync: frozenset[int], why: str) -> Iterator[tuple[str, State]]:
        """A record with these in sync; and the same, when the daemon dies while it is written."""
        daemon = state.daemons[n]
        old = daemon.serves
        assert old is not None
        entries = tuple(
            evolve(
                entry,
                in_sync=m in in_sync,
                incarnation=bytes([state.holders[m].power]) * 16 if m in in_sync else entry.incarnation,
            )
            for m, entry in enumerate(old.members)
        )
        new = evolve(old, sequence=old.sequence + 1, members=entries)
        yield from self._written(state, n, new, daemon.reach, f"{n} writes a record {why}")

    def _written(
        self, state: State, n: int, record: Record, nodes: frozenset[int], what: str
    ) -> Iterator[tuple[str, State]]:
        done = state
        for m in nodes:
            done = done.with_holder(m, evolve(done.holders[m], record=record))
        yield what, done.with_daemon(n, Daemon(record, record, nodes))
        if state.left.faults:
            for m in nodes:
                torn = state.spend("faults").with_holder(m, evolve(state.holders[m], record=record))
                kept = evolve(torn.daemons[n], serves=None, reach=frozenset())
                yield f"{what}, to {self.names[m]} only, and dies", torn.with_daemon(n, kept)

    def _returns(self, state: State, n: int, m: int) -> Iterator[tuple[str, State]]:
        if any(m in other.reach for k, other in enumerate(state.daemons) if k != n):
            return  # it is promised to the other
        record = state.daemons[n].serves
        assert record is not None
        if (
            not self.in_sync(record) <= state.daemons[n].reach
            or self.verdict_on(state, m, record) is MemberStep.REFUSE
        ):
            return
        source = state.holders[min(self.in_sync(record))]
        copied = state.with_holder(m, evolve(state.holders[m], has=source.has, stable=source.has))
        daemon = evolve(copied.daemons[n], reach=copied.daemons[n].reach | {m})
        in_sync = self.in_sync(record) | {m}
        what = f"with {self.names[m]} again"
        yield from self._record(copied.with_daemon(n, daemon), n, in_sync, what)

    def verdict_on(self, state: State, m: int, record: Record) -> MemberStep:
        """What a storage that runs with C{record} does with that media."""
        found = FoundLabel(self.label(m, state.holders[m].record), 0)
        return judge_member(MemberInputs(STORAGE, "mirror", record, found, 2 * SIZE, SIZE, SIZE)).step

    def _starts(self, state: State, n: int) -> Iterator[tuple[str, State]]:
        for seen in _subsets(self.holders):
            choices = ["", *(self.names[m] for m in seen if m in self.members and state.left.forces)]
            for granted in self._grants(state, n, seen):
                for forced in choices:
                    verdict = self.judge(state, n, seen, granted, forced)
                    if verdict is not None and verdict.step is AssemblyStep.SERVE:
                        after = state.spend("forces") if forced else state
                        what = f"{n} starts with {''.join(self.names[m] for m in sorted(granted))}"
                        what += f", forced on {forced}" if forced else ""
                        yield from self._takes_over(after, n, granted, verdict, what)

    def _grants(self, state: State, n: int, seen: frozenset[int]) -> Iterator[frozenset[int]]:
        """All that it sees, or all but one which the other owner has kept meanwhile."""
        yield seen
        for k, other in enumerate(state.daemons):
            for m in other.reach & seen if k != n else ():
                yield seen - {m}

    def _takes_over(
        self, state: State, n: int, seen: frozenset[int], verdict: AssemblyVerdict, what: str
    ) -> Iterator[tuple[str, State]]:
        self.served += 1
        old = verdict.record
        assert old is not None
        if verdict.row != "forced":
            self._nobody_is_passed_over(state, n, seen, old, what)
        sources = frozenset(self.names.index(name) for name in verdict.sources)
        number = max(old.claim.number, *(state.holders[m].claim for m in seen)) + 1
        tag = state.claims + 1
        label = self.label(min(sources), state.holders[min(sources)].record)
        ancestry = forced_ancestry(label, tag) if verdict.row == "forced" else old.ancestry
        votes = old.votes
        if verdict.new_votes:
            votes = tuple(Vote(self.ids[m], self.fences[m], self.names[m]) for m in sorted(sources))
            if self.scope.own_store:
                votes = (Vote(self.owners[n], _NO_FENCE, f"own {n}"),)
        entries = tuple(
            evolve(
                entry,
                in_sync=m in sources,
                incarnation=bytes([state.holders[m].power]) * 16 if m in sources else entry.incarnation,
            )
            for m, entry in enumerate(old.members)
        )
        record = Record(
            Claim(number, tag, self.owners[n]), 1, old.incarnation, entries, ancestry=ancestry, votes=votes
        )
        truth = state.truth(old)
        has = frozenset.intersection(*(state.holders[m].has for m in sources))
        if verdict.row == "forced":
            truth = Truth(has, has)
        elif verdict.lost_cache:
            truth = Truth(has, truth.flushed)
        state = evolve(state, claims=tag).with_truth(record, truth)
        for m in seen:
            state = state.with_holder(m, evolve(state.holders[m], claim=number))
        for k, other in enumerate(state.daemons):
            if k != n:
                state = state.with_daemon(k, evolve(other, reach=other.reach - seen))
        line = {m for m in seen if lineage(state.holders[m].record, record) is not Lineage.DIVERGED}
        nodes = frozenset(line)
        if not has_quorum(votes, self.votes(nodes, n, True)):
            raise Broken("what is served can be kept", (what,), record)
        mine = state.with_daemon(n, evolve(state.daemons[n], reach=nodes))
        yield from self._written(mine, n, record, nodes, what)

    # -- promises

    def check(self, state: State, steps: tuple[str, ...]) -> None:
        """@raise Broken: a promise."""
        serving = [n for n in range(2) if self.serving(state, n)]
        for n in serving:
            record = state.daemons[n].serves
            assert record is not None
            truth = state.truth(record)
            for m in self.in_sync(record) & state.daemons[n].reach:
                if not truth.acked <= state.holders[m].has:
                    raise Broken("no stale source", steps, (self.names[m], truth))
            for m in set(self.members) - self.in_sync(record):
                if self.verdict_on(state, m, record) is not MemberStep.REFUSE:
                    self._may_be_overwritten(state, m, record, steps)
        if len(serving) == 2:
            one, other = (state.daemons[n].serves for n in serving)
            assert one is not None and other is not None
            if one.ancestry == other.ancestry:
                raise Broken("one owner", steps)
        self._agree(state, steps)

    def _may_be_overwritten(self, state: State, m: int, record: Record, steps: tuple[str, ...]) -> None:
        """Nothing that users of another line were told is only there."""
        theirs = state.truth(state.holders[m].record)
        mine = state.truth(record)
        if not theirs.flushed & state.holders[m].has <= mine.acked | mine.flushed:
            raise Broken("nothing is overwritten", steps, (self.names[m], theirs, mine))

    def _agree(self, state: State, steps: tuple[str, ...]) -> None:
        """Whoever starts from the same labels goes on with the same history, from the same copies."""
        if state.left.starts or any(daemon.serves is not None for daemon in state.daemons):
            return
        for seen in _subsets(self.holders):
            started = [
                verdict
                for n in range(2)
                if (verdict := self.judge(state, n, seen, seen)) is not None and verdict.step is AssemblyStep.SERVE
            ]
            for verdict in started:
                self._no_stale_start(state, verdict, steps)
            if len(started) == 2:
                one, other = started
                assert one.record is not None and other.record is not None
                if one.record.ancestry != other.record.ancestry:
                    raise Broken("both ends agree on the history", steps, seen)
                if one.record == other.record and one.sources != other.sources:
                    raise Broken("both ends agree on the sources", steps, seen)

    def _no_stale_start(self, state: State, verdict: AssemblyVerdict, steps: tuple[str, ...]) -> None:
        assert verdict.record is not None
        truth = state.truth(verdict.record)
        needed = truth.flushed if verdict.lost_cache else truth.acked
        for name in verdict.sources:
            if not needed <= state.holders[self.names.index(name)].has:
                raise Broken("no stale source", steps, (name, verdict.row))

    def _nobody_is_passed_over(self, state: State, n: int, seen: frozenset[int], record: Record, what: str) -> None:
        """Where two histories are seen a person has to choose, or has done so through this daemon."""
        mine = state.truth(record)
        kept = state.daemons[n].kept
        for m in seen & frozenset(self.members):
            holder = state.holders[m]
            other = lineage(holder.record, record) is Lineage.DIVERGED and (kept is None or not kept.ancestry)
            if other and not state.truth(holder.record).flushed & holder.has <= mine.acked:
                raise Broken("a person chooses the history", (what,), self.names[m])

    def explore(self, found: Callable[[State], None] | None = None) -> None:
        """Every state, the nearest first. @raise Broken: the first promise that does not hold."""
        first = self.first()
        level: dict[State, tuple[str, ...]] = {first: ()}
        known = {first}
        while level:
            after: dict[State, tuple[str, ...]] = {}
            for state, steps in level.items():
                self.states += 1
                self.check(state, steps)
                if found is not None:
                    found(state)
                for what, new in self.steps(state):
                    if new not in known:
                        known.add(new)
                        after[new] = (*steps, what)
            level = after
