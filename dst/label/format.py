"""
The label: who a member is, and the highest record it has seen.

Two slots of 32 KiB.  A label counts as stable only when both slots have been
written, each flushed before the next is touched, so one of them is whole at
every moment.  A slot is a 64-byte header and a body, little-endian::

    0   magic "DSTLABEL"            24  sequence of the label
    8   format version, reserved    32  CRC-32C of header and body, this field as zero
    12  incompatible features       36  reserved, zero
    16  compatible features         64  body
    20  length of the body

The whole story with every field is C{docs/specifications/label.rst}; the third
copy is the test with literal bytes.
"""

from __future__ import annotations

import struct

from attrs import evolve, frozen
from crc32c import crc32c

from dst.errors import BadMedia
from dst.label.upgrading import FIRST_VERSION, FormatTooNew, from_version_1
from dst.label.zone import LABELS_BYTES, SLOT_BYTES
from dst.ownership import FENCE_BYTES, Claim

__all__ = [
    "ANCESTRY_MAX",
    "MAGIC",
    "MEMBERS_MAX",
    "NAME_BYTES_MAX",
    "VERSION",
    "VOTES_MAX",
    "Claim",
    "Epoch",
    "Fork",
    "FoundLabel",
    "Label",
    "MemberEntry",
    "Record",
    "Vote",
    "decode_slot",
    "encode_slot",
    "find_label",
]

MAGIC = b"DSTLABEL"
VERSION = 2
"""What is written.  Earlier ones are read, see L{dst.label.upgrading}."""
MEMBERS_MAX = 256
NAME_BYTES_MAX = 64
ANCESTRY_MAX = 16
VOTES_MAX = 32
"""With the most members the slot is full; more would only make every record slower."""

_HEADER = struct.Struct("<8sHHIIIQI28x")
_BODY = struct.Struct("<16s16s16sIB3xQQQQQQI4x")
_RECORD = struct.Struct("<QQ16sQ16sQIBBH")
_ENTRY = struct.Struct("<16s16sQIHB")
_ANCESTOR = struct.Struct("<QQ16sQQ")
_VOTE = struct.Struct("<16s16sB")
_COUNT = struct.Struct("<H")
assert _HEADER.size == 64

_RELEASED = 1
_IN_SYNC, _SUSPENDED = 1, 4


@frozen
class Epoch:
    """
    When a region was last cleared: compared for equality only.

    @ivar tag: that of the owner's claim; 0 with C{number} 0 is I{none}, which equals nothing, itself included.
    @ivar number: the owner counts them.
    """

    tag: int = 0
    number: int = 0


@frozen
class MemberEntry:
    """
    What a record says of one member.

    @ivar incarnation: that of its node when it was last known to be in sync.
    @ivar place: its position, which means something in a linear or a stripe.
    @ivar name: in the topology when the record was written; a help for people and for
        telling whose place unlabelled media stands at.
    @ivar media_size: bytes, when its label was written: where that stands if the media has grown since. 0: not known.
    """

    node_id: bytes
    incarnation: bytes
    place: int
    name: str
    in_sync: bool = True
    suspended: bool = False
    media_size: int = 0


@frozen
class Vote:
    """
    One vote in a record: a medium that keeps labels, and the memory of promises that fences it.

    If either has been lost it is not this vote any more, but may become a new one (R11).

    @ivar node_id: that of the label on the medium: a member's, a witness's, or the owner's for its own store.
    @ivar fence: the identity of the node's memory of promises; zero for the owner's own store, which only one
        daemon can have.
    @ivar name: in the topology when the record was written, for people.
    """

    node_id: bytes
    fence: bytes
    name: str


@frozen
class Fork:
    """
    Where a person forced a storage to go on from an older copy.

    @ivar claim: of the record that was forced.
    @ivar sequence: of that record.
    @ivar tag: of the claim under which the storage went on from there: two forks from the same record differ by it.
    """

    claim: Claim
    sequence: int
    tag: int


@frozen
class Record:
    """
    The configuration of a storage at one moment.  Ordered by C{(claim, sequence)}.

    @ivar incarnation: 16 bytes, the storage's own: changes when acknowledged unflushed data may be lost on
        all copies.
    @ivar released: the owner stopped cleanly; no region is hot.
    @ivar ancestry: where a person forced it to go on from an older copy, the oldest first.
    @ivar votes: whose majority makes a record stable and grants a claim; with none, every member is needed.
    @ivar data_size: bytes of the storage, if every member has all of it; 0 where each label's own says what it has.
    """

    claim: Claim
    sequence: int
    incarnation: bytes
    members: tuple[MemberEntry, ...]
    released: bool = False
    ancestry: tuple[Fork, ...] = ()
    votes: tuple[Vote, ...] = ()
    data_size: int = 0

    @property
    def order(self) -> tuple[Claim, int]:
        """What records are compared by."""
        return (self.claim, self.sequence)

    def entry(self, node_id: bytes) -> MemberEntry | None:
        """What it says of that member."""
        return next((entry for entry in self.members if entry.node_id == node_id), None)

    def named(self, name: str) -> MemberEntry | None:
        """What it says of the member of that name."""
        return next((entry for entry in self.members if entry.name == name), None)

    @property
    def in_sync(self) -> tuple[MemberEntry, ...]:
        """The members that may be a source."""
        return tuple(entry for entry in self.members if entry.in_sync)


@frozen
class Label:
    """
    What one member's media says of itself.

    @ivar sequence: of this label on this member; the higher of two slots is the newer.
    @ivar storage_id: 16 random bytes, given at initialisation (the "age" of 2007).
    @ivar node_id: 16 random bytes, this member's.
    @ivar consistent: as of C{since}; otherwise it is a resync target since then and must never be a source.
    @ivar data_size: bytes of this member's data area that were in use when it was last one in sync or on its way.
    @ivar region_size: bytes; 0 where no table is kept.
    @ivar unit: bytes; the stripe's chunk size, else 0.
    """

    sequence: int
    storage_id: bytes
    node_id: bytes
    algorithm: str
    place: int
    consistent: bool
    since: Epoch
    media_size: int
    zone_offset: int
    data_size: int
    region_size: int
    unit: int
    record: Record

    def evolve(self, **changes: object) -> Label:
        """A copy with some fields changed."""
        return evolve(self, **changes)  # type: ignore[arg-type]


def encode_slot(label: Label) -> bytes:
    """The bytes of one slot; its length is a multiple of 4 KiB, at most L{SLOT_BYTES}."""
    record = label.record
    assert len(record.members) <= MEMBERS_MAX, len(record.members)
    assert len(record.ancestry) <= ANCESTRY_MAX, len(record.ancestry)
    parts = [
        _BODY.pack(
            label.storage_id,
            label.node_id,
            label.algorithm.encode("ascii"),
            label.place,
            label.consistent,
            label.media_size,
            label.zone_offset,
            label.data_size,
            label.region_size,
            label.unit,
            label.since.tag,
            label.since.number,
        ),
        _RECORD.pack(
            record.claim.number,
            record.claim.tag,
            record.claim.owner,
            record.sequence,
            record.incarnation,
            record.data_size,
            _RELEASED if record.released else 0,
            0,
            len(record.ancestry),
            len(record.members),
        ),
    ]
    parts.extend(
        _ANCESTOR.pack(fork.claim.number, fork.claim.tag, fork.claim.owner, fork.sequence, fork.tag)
        for fork in record.ancestry
    )
    for entry in record.members:
        name = entry.name.encode("utf-8")
        assert len(name) <= NAME_BYTES_MAX, entry.name
        flags = _IN_SYNC * entry.in_sync | _SUSPENDED * entry.suspended
        fixed = _ENTRY.pack(entry.node_id, entry.incarnation, entry.media_size, entry.place, flags, len(name))
        parts.append(fixed + name)
    assert len(record.votes) <= VOTES_MAX, len(record.votes)
    parts.append(_COUNT.pack(len(record.votes)))
    for vote in record.votes:
        name = vote.name.encode("utf-8")
        assert len(name) <= NAME_BYTES_MAX and len(vote.fence) == FENCE_BYTES, vote
        parts.append(_VOTE.pack(vote.node_id, vote.fence, len(name)) + name)
    body = b"".join(parts)
    head = _HEADER.pack(MAGIC, VERSION, 0, 0, 0, len(body), label.sequence, 0)
    checksum = crc32c(body, crc32c(head))
    slot = _HEADER.pack(MAGIC, VERSION, 0, 0, 0, len(body), label.sequence, checksum) + body
    assert len(slot) <= SLOT_BYTES, len(slot)
    return slot + bytes(-len(slot) % 4096)


class _Body:
    """Takes fields off a body one after the other, never past its end."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def take(self, form: struct.Struct) -> tuple[object, ...]:
        return form.unpack(self.take_bytes(form.size))

    def take_bytes(self, length: int) -> bytes:
        taken = self._body[self._at : self._at + length]
        if len(taken) != length:
            raise BadMedia("the label's body ends before its last field")
        self._at += length
        return taken


def decode_slot(slot: bytes) -> Label | None:
    """
    The label in one slot; C{None} where there never was one.

    @raise BadMedia: there is one, and it is damaged.
    @raise FormatTooNew: it is of a version or has features that this release does not know.
    """
    if len(slot) < _HEADER.size or slot[:8] != MAGIC:
        return None
    _, version, reserved, incompatible, compatible, length, sequence, checksum = _HEADER.unpack_from(slot)
    if _HEADER.size + length > min(len(slot), SLOT_BYTES):
        raise BadMedia("the label's body is longer than its slot")
    head = _HEADER.pack(MAGIC, version, reserved, incompatible, compatible, length, sequence, 0)
    body = slot[_HEADER.size : _HEADER.size + length]
    if crc32c(body, crc32c(head)) != checksum:
        raise BadMedia("the label's checksum does not match")
    if not FIRST_VERSION <= version <= VERSION or incompatible:
        raise FormatTooNew(
            f"the label has format version {version} and features {incompatible:#x}, this release knows "
            f"version {VERSION} and features 0; use a newer release"
        )
    if version == FIRST_VERSION:
        body = from_version_1(body)
    try:
        return _decode_body(sequence, _Body(body))
    except (UnicodeDecodeError, struct.error) as error:
        raise BadMedia(f"a field of the label has no meaning: {error}") from error


def _decode_body(sequence: int, body: _Body) -> Label:
    storage_id, node_id, algorithm, place, consistent, media, zone, data, region, unit, tag, number = body.take(_BODY)
    claim_number, claim_tag, owner, record_sequence, incarnation, size, flags, _, ancestors, count = body.take(
        _RECORD
    )
    assert isinstance(ancestors, int) and isinstance(count, int) and isinstance(flags, int)
    assert isinstance(algorithm, bytes)
    if count > MEMBERS_MAX or ancestors > ANCESTRY_MAX:
        raise BadMedia(f"the label names {count} members and {ancestors} ancestors, more than there can be")
    ancestry = []
    for _ in range(ancestors):
        a_number, a_tag, a_owner, a_sequence, forced = body.take(_ANCESTOR)
        ancestry.append(Fork(Claim(a_number, a_tag, a_owner), a_sequence, forced))  # type: ignore[arg-type]
    members = []
    for _ in range(count):
        entry_id, entry_incarnation, entry_media, entry_place, entry_flags, name_length = body.take(_ENTRY)
        assert isinstance(entry_flags, int) and isinstance(name_length, int)
        members.append(
            MemberEntry(
                entry_id,  # type: ignore[arg-type]
                entry_incarnation,  # type: ignore[arg-type]
                entry_place,  # type: ignore[arg-type]
                body.take_bytes(name_length).decode("utf-8"),
                bool(entry_flags & _IN_SYNC),
                bool(entry_flags & _SUSPENDED),
                entry_media,  # type: ignore[arg-type]
            )
        )
    votes = []
    (vote_count,) = body.take(_COUNT)
    assert isinstance(vote_count, int)
    if vote_count > VOTES_MAX:
        raise BadMedia(f"the label names {vote_count} votes, more than there can be")
    for _ in range(vote_count):
        vote_id, fence, name_length = body.take(_VOTE)
        assert isinstance(name_length, int)
        votes.append(Vote(vote_id, fence, body.take_bytes(name_length).decode("utf-8")))  # type: ignore[arg-type]
    record = Record(
        Claim(claim_number, claim_tag, owner),  # type: ignore[arg-type]
        record_sequence,  # type: ignore[arg-type]
        incarnation,  # type: ignore[arg-type]
        tuple(members),
        bool(flags & _RELEASED),
        tuple(ancestry),
        tuple(votes),
        size,  # type: ignore[arg-type]
    )
    return Label(
        sequence,
        storage_id,  # type: ignore[arg-type]
        node_id,  # type: ignore[arg-type]
        algorithm.rstrip(b"\0").decode("ascii"),
        place,  # type: ignore[arg-type]
        bool(consistent),
        Epoch(tag, number),  # type: ignore[arg-type]
        media,  # type: ignore[arg-type]
        zone,  # type: ignore[arg-type]
        data,  # type: ignore[arg-type]
        region,  # type: ignore[arg-type]
        unit,  # type: ignore[arg-type]
        record,
    )


@frozen
class FoundLabel:
    """
    What the two slots of a member hold together.

    @ivar label: the newer whole label, or C{None}.
    @ivar slot: which slot it stands in; the other one is to be written next.
    @ivar damage: C{""}, or why a slot that has a label cannot be used.  With C{label} set it was
        a torn write and the other slot stands in for it.
    """

    label: Label | None
    slot: int = 1
    damage: str = ""

    @property
    def unlabelled(self) -> bool:
        """Neither slot ever held a label."""
        return self.label is None and not self.damage


def find_label(both: bytes) -> FoundLabel:
    """
    What L{LABELS_BYTES} bytes from L{dst.label.zone.label_offset} hold.
    """
    assert len(both) == LABELS_BYTES, len(both)
    best: FoundLabel | None = None
    damage = ""
    for slot in (0, 1):
        try:
            label = decode_slot(bytes(both[slot * SLOT_BYTES : (slot + 1) * SLOT_BYTES]))
        except BadMedia as error:
            damage = error.message
            continue
        if label is not None and (best is None or best.label is None or label.sequence > best.label.sequence):
            best = FoundLabel(label, slot)
    if best is None:
        return FoundLabel(None, damage=damage)
    return evolve(best, damage=damage)
