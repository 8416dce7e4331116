"""
Taking a storage over: from claims that were granted and labels that were read after that, to a record that is stable.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from dst.algorithms.mirror.ballot import Ballot, not_written
from dst.algorithms.mirror.ground import Ground, Started
from dst.algorithms.mirror.member import Member
from dst.errors import BadMedia, DSTError, Unavailable
from dst.label.format import Epoch, Label, Record, Vote
from dst.label.lineage import forced_ancestry
from dst.label.region_table import RegionTable
from dst.label.verdict import AssemblyVerdict
from dst.label.votes import words_of
from dst.recovery.table_store import TableStore

__all__ = ["TakeOver"]

_log = Logger()


class TakeOver:
    """One attempt; another one is made under another claim."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._store_failed: Unavailable | None = None

    async def take_over(self, verdict: AssemblyVerdict) -> Started:
        """Claim above all that was seen, read the tables, and make a record stable that names the sources."""
        record = verdict.record
        assert record is not None and verdict.sources
        sources = tuple(member for member in self._ground.members if member.name in verdict.sources)
        self._name_members(record, verdict.storage_id)
        facts = sources[0].found
        assert facts is not None and facts.label is not None
        # The size is that of the record, wherever it was seen: whoever is in sync in it has room for that. A copy
        # that a person says is the one may be of a time when the storage was smaller.
        data_size = record.data_size
        if verdict.row == "forced":
            data_size = min(facts.label.record.data_size, facts.label.data_size)
        hot: set[int] = set()
        for member in sources:
            hot.update(await self._load(member, data_size))
        ownership = self._ground.ownership
        claim = ownership.claim
        ancestry, votes = record.ancestry, record.votes
        if verdict.row == "forced":
            ancestry = forced_ancestry(facts.label, claim.tag)
        if verdict.new_votes:
            votes = self._votes_of(sources)
        incarnation = self._ground.entropy(16) if verdict.lost_cache else record.incarnation
        entries = []
        for entry in record.members:
            known_as = [each for each in self._ground.members if each.node_id == entry.node_id]
            if not known_as:
                entries.append(evolve(entry, in_sync=False))
                continue
            member = known_as[0]
            member.suspended = entry.suspended and member not in sources
            known = member.incarnation if member in sources else entry.incarnation
            entries.append(
                evolve(
                    entry,
                    in_sync=member in sources,
                    name=member.name,
                    place=member.index,
                    incarnation=known,
                    suspended=member.suspended,
                    media_size=self._media_size(member, entry.media_size),
                )
            )
        new = Record(claim, 1, incarnation, tuple(entries), False, ancestry, votes, data_size)
        label = facts.label.evolve(
            record=new, sequence=0, node_id=b"", consistent=True, since=Epoch(), place=0, data_size=data_size
        )
        await self._make_stable(label, new, sources)
        return Started(label, frozenset(hot), sources)

    def _votes_of(self, sources: Sequence[Member]) -> tuple[Vote, ...]:
        """Whose word counts after a person has forced a start: those who are here."""
        own = self._ground.ownership.own_vote
        if own is not None:
            return (own,)
        votes = [(member.name, self._ground.ownership.vote_of(member)) for member in sources]
        return tuple(Vote(*vote, name) for name, vote in votes if vote is not None)

    async def _make_stable(self, label: Label, record: Record, sources: Sequence[Member]) -> None:
        """
        C{record} on every source and on a quorum.

        @raise Unavailable: there was none; it is tried again, with a higher claim.
        """
        ballot = Ballot(record.votes, record.votes, self._ground.ownership)
        own = Deferred.fromCoroutine(self._store_record(label))
        ballot.add(own, None, wanted=ballot.needs(self._ground.ownership.own_vote) or not record.votes)
        failures: list[Exception] = []

        def failed(failure: Failure) -> bool:
            failure.trap(DSTError)
            failures.append(failure.value)  # type: ignore[arg-type]
            return False

        for member in sources:
            mine = member.labels.label if member.labels else None
            assert mine is not None and member.labels is not None
            since, data_size = Epoch(record.claim.tag, 1), record.data_size
            consistent = mine.evolve(record=record, consistent=True, since=since, data_size=data_size)
            writing = Deferred.fromCoroutine(member.labels.write(consistent))
            ballot.add(writing.addCallbacks(lambda _: True, failed), member, wanted=True)
        voting = {vote.node_id for vote in record.votes}
        for holder in self._ground.holders:
            mine = holder.found.label if holder.found is not None else None
            votes = mine is not None and mine.node_id in voting and self._ground.ownership.vote_of(holder) is not None
            if votes and holder not in sources and holder.labels is not None:
                writing = Deferred.fromCoroutine(holder.labels.set_record(record, resolved=holder.given_up))
                ballot.add(writing.addCallbacks(lambda _: True, not_written), holder, wanted=False)
        await ballot.result()
        if failures:
            raise failures[0]
        if not ballot.stable:
            missing = words_of(vote for vote in ballot.voters if not ballot.has(vote))
            raise self._store_failed or Unavailable(
                f"the first record got no quorum; these did not keep it: {missing}"
            )

    async def _store_record(self, label: Label) -> bool:
        try:
            await self._ground.store.store(label.evolve(node_id=label.record.claim.owner))
        except (DSTError, OSError) as error:
            self._store_failed = Unavailable(f"the state directory cannot be written: {error}")
            return False
        return True

    def _name_members(self, record: Record, storage_id: bytes) -> None:
        """Who is who: by the identity on the media; media that has none stands in for the entry of its name."""
        taken: set[bytes] = set()
        for member in self._ground.members:
            label = member.found.label if member.found is not None else None
            known = label is not None and label.storage_id == storage_id and record.entry(label.node_id) is not None
            member.node_id = label.node_id if label is not None and known and label.node_id not in taken else b""
            taken.add(member.node_id)
        for member in self._ground.members:
            entry = record.named(member.name)
            if not member.node_id and entry is not None and entry.node_id not in taken:
                member.node_id = entry.node_id
                taken.add(entry.node_id)

    def _media_size(self, member: Member, known: int) -> int:
        """Where its label stands."""
        label = member.found.label if member.found is not None else None
        return label.media_size if label is not None and label.node_id == member.node_id else known

    async def _load(self, member: Member, data_size: int) -> list[int]:
        label = member.found.label if member.found is not None else None
        assert label is not None
        zone = member.zone_of(label)
        if zone.capacity < data_size:
            raise BadMedia(
                f"{member.name} is in sync and has room for {zone.capacity} bytes, and the storage has {data_size}"
            )
        table = RegionTable(zone.regions_of(data_size), label.storage_id)
        member.tables = TableStore(member.device, zone, table)
        bad = await member.tables.load()
        if bad:
            _log.warn("{member}: {bad} pages of the region table were unusable", member=member.name, bad=bad)
        return list(table.hot_regions())
