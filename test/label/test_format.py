"""Tests of L{dst.label.format}."""

from __future__ import annotations

import random
import struct

from attrs import evolve
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dst.errors import BadMedia
from dst.label.format import (
    MEMBERS_MAX,
    NAME_BYTES_MAX,
    VOTES_MAX,
    Claim,
    Epoch,
    Fork,
    FoundLabel,
    Label,
    MemberEntry,
    Record,
    Vote,
    decode_slot,
    encode_slot,
    find_label,
)
from dst.label.zone import LABELS_BYTES, PAGE_BYTES, SLOT_BYTES
from test.label.examples import LABEL, LABEL_BYTES, numbered

HEADER_BYTES = 64

uint16 = st.integers(0, 2**16 - 1)
uint32 = st.integers(0, 2**32 - 1)
uint64 = st.integers(0, 2**64 - 1)
identities = st.binary(min_size=16, max_size=16)
names = st.text(max_size=NAME_BYTES_MAX, alphabet=st.characters(exclude_categories=["Cs"])).filter(
    lambda name: len(name.encode()) <= NAME_BYTES_MAX
)
claims = st.builds(Claim, uint64, uint64, identities)
entries = st.builds(MemberEntry, identities, identities, uint32, names, st.booleans(), st.booleans(), uint64)
forks = st.builds(Fork, claims, uint64, uint64)
votes = st.builds(Vote, identities, identities, names)
records = st.builds(
    Record,
    claims,
    uint64,
    identities,
    st.lists(entries, max_size=8).map(tuple),
    st.booleans(),
    st.lists(forks, max_size=16).map(tuple),
    st.lists(votes, max_size=8).map(tuple),
    uint64,
)
labels = st.builds(
    Label,
    uint64,
    identities,
    identities,
    st.text("abcdefghijklmnopqrstuvwxyz", max_size=16),
    uint32,
    st.booleans(),
    st.builds(Epoch, uint64, uint32),
    uint64,
    uint64,
    uint64,
    uint64,
    uint64,
    records,
)


def sealed(slot: bytes, at: int, changed: bytes) -> bytes:
    """C{slot} with other bytes at C{at} and the checksum that fits them: what another release may have written."""
    new = bytearray(slot)
    new[at : at + len(changed)] = changed
    new[32:36] = bytes(4)
    (length,) = struct.unpack_from("<I", new, 20)
    new[32:36] = struct.pack("<I", crc32c(bytes(new[: HEADER_BYTES + length])))
    return bytes(new)


def in_slots(first: bytes = b"", second: bytes = b"") -> bytes:
    """What stands on the media with these bytes at the start of each slot."""
    return first.ljust(SLOT_BYTES, b"\0") + second.ljust(SLOT_BYTES, b"\0")


class LiteralBytesTests(SynchronousTestCase):
    """The format is what the specification shows."""

    def test_encode(self) -> None:
        """The label of the worked example has the bytes of the worked example, then zeroes up to 4 KiB."""
        self.assertEqual(LABEL_BYTES + bytes(PAGE_BYTES - len(LABEL_BYTES)), encode_slot(LABEL))

    def test_decode(self) -> None:
        """The bytes of the worked example are its label, wherever the slot is cut off behind them."""
        self.assertEqual(LABEL, decode_slot(LABEL_BYTES))
        self.assertEqual(LABEL, decode_slot(LABEL_BYTES.ljust(SLOT_BYTES, b"\0")))

    @given(labels)
    @settings(deadline=None)
    def test_round_trip(self, label: Label) -> None:
        """What is written is read back, every field of it."""
        self.assertEqual(label, decode_slot(encode_slot(label)))

    def test_largest(self) -> None:
        """A slot has room for the most members and votes with the longest names and the longest ancestry."""
        name = "n" * NAME_BYTES_MAX
        members = tuple(MemberEntry(numbered(n % 99), numbered(n % 98), n, name) for n in range(MEMBERS_MAX))
        ancestry = tuple(Fork(Claim(n, n, numbered(n)), n, n) for n in range(16))
        votes = tuple(Vote(numbered(n), numbered(n + 1), name) for n in range(VOTES_MAX))
        label = LABEL.evolve(record=evolve(LABEL.record, members=members, ancestry=ancestry, votes=votes))
        slot = encode_slot(label)
        self.assertLessEqual(len(slot), SLOT_BYTES)
        self.assertEqual(0, len(slot) % PAGE_BYTES)
        self.assertEqual(label, decode_slot(slot))

    def test_too_many(self) -> None:
        """More members or votes, or a longer name, than there may be are our own mistake and never written."""
        many = tuple(MemberEntry(numbered(0), numbered(0), n, "") for n in range(MEMBERS_MAX + 1))
        long = (MemberEntry(numbered(0), numbered(0), 0, "ä" * (NAME_BYTES_MAX // 2) + "b"),)
        for members in (many, long):
            with self.assertRaises(AssertionError):
                encode_slot(LABEL.evolve(record=evolve(LABEL.record, members=members)))
        votes = tuple(Vote(numbered(0), numbered(0), "") for _ in range(VOTES_MAX + 1))
        short = (Vote(numbered(0), b"", ""),)
        for bad in (votes, short):
            with self.assertRaises(AssertionError):
                encode_slot(LABEL.evolve(record=evolve(LABEL.record, votes=bad)))


class DamagedSlotTests(SynchronousTestCase):
    """A slot is read as what was written into it, or not at all."""

    def test_every_byte_flipped(self) -> None:
        """A slot with any byte changed is another content never: it is no label, a damaged one, or still this one."""
        same = []
        for at in range(len(LABEL_BYTES)):
            for mask in (0x01, 0x80, 0xFF):
                damaged = bytearray(LABEL_BYTES)
                damaged[at] ^= mask
                try:
                    found = decode_slot(bytes(damaged))
                except BadMedia:
                    continue
                if found is None:
                    self.assertLess(at, 8)
                else:
                    self.assertEqual(LABEL, found)
                    same.append(at)
        self.assertEqual(set(range(36, HEADER_BYTES)), set(same), "only the reserved bytes mean nothing")

    def test_truncated(self) -> None:
        """A slot that ends anywhere before its last field is damaged, or was never one."""
        for length in range(len(LABEL_BYTES)):
            cut = LABEL_BYTES[:length]
            if length < HEADER_BYTES:
                self.assertIs(None, decode_slot(cut))
            else:
                self.assertRaises(BadMedia, decode_slot, cut)
            if length >= 8:
                # On media the slot is always whole: what is missing reads as zeroes, or as what stood there before.
                if LABEL_BYTES[length:].strip(b"\0"):
                    self.assertRaises(BadMedia, decode_slot, cut.ljust(SLOT_BYTES, b"\0"))
                self.assertRaises(BadMedia, decode_slot, cut.ljust(SLOT_BYTES, b"\xff"))

    def test_torn_between_two(self) -> None:
        """Any mixture of the sectors of two labels is one of the two or damaged."""
        members = tuple(MemberEntry(numbered(n), numbered(n), n, f"node-{n}" * 4) for n in range(30))
        old = LABEL.evolve(sequence=8, record=evolve(LABEL.record, members=members))
        new = old.evolve(sequence=10, record=evolve(old.record, sequence=6, members=members[::-1]))
        sectors = [[slot[at : at + 512] for at in range(0, PAGE_BYTES, 512)] for slot in map(encode_slot, (old, new))]
        refused = 0
        for choice in range(2**8):
            slot = b"".join(sectors[choice >> n & 1][n] for n in range(8))
            try:
                self.assertIn(decode_slot(slot), (old, new))
            except BadMedia:
                refused += 1
        self.assertGreater(refused, 200)

    @given(st.binary(max_size=400), st.booleans())
    @settings(deadline=None)
    def test_random(self, noise: bytes, with_magic: bool) -> None:
        """Noise is no label, or a damaged one."""
        slot = (b"DSTLABEL" if with_magic else b"") + noise
        try:
            self.assertIs(None, decode_slot(slot))
        except BadMedia as error:
            self.assertTrue(with_magic)
            self.assertNotEqual("", error.message)

    @given(st.integers(HEADER_BYTES, len(LABEL_BYTES) - 1), st.binary(min_size=1, max_size=32))
    @settings(deadline=None, max_examples=300)
    def test_sealed_nonsense(self, at: int, noise: bytes) -> None:
        """Even with a checksum that fits, a body is a label or refused; nothing else is raised."""
        noise = noise[: len(LABEL_BYTES) - at]
        try:
            self.assertIsInstance(decode_slot(sealed(LABEL_BYTES, at, noise)), Label)
        except BadMedia as error:
            self.assertNotEqual("", error.message)

    def test_longer_than_slot(self) -> None:
        """A body that would end behind its slot is refused before anything is read of it."""
        for length in (SLOT_BYTES - HEADER_BYTES + 1, 2**32 - 1):
            slot = bytearray(LABEL_BYTES.ljust(SLOT_BYTES, b"\0"))
            slot[20:24] = struct.pack("<I", length)
            self.assertIn("longer than its slot", self.refused(bytes(slot)))

    def test_unknown_version(self) -> None:
        """A later format version is refused by name and not guessed at."""
        self.assertIn("version 3", self.refused(sealed(LABEL_BYTES, 8, b"\x03\x00")))

    def test_unknown_incompatible_feature(self) -> None:
        """A feature without which the media cannot be understood is refused."""
        self.assertIn("0x80000000", self.refused(sealed(LABEL_BYTES, 12, b"\0\0\0\x80")))

    def test_unknown_compatible_feature(self) -> None:
        """A feature that may be ignored is."""
        self.assertEqual(LABEL, decode_slot(sealed(LABEL_BYTES, 16, b"\x01\0\0\x80")))

    def test_too_many_members(self) -> None:
        """A count above the limit is refused even where the checksum fits."""
        at = HEADER_BYTES + 112 + 70
        self.assertIn("more than there can be", self.refused(sealed(LABEL_BYTES, at, struct.pack("<H", 257))))

    def test_body_too_short(self) -> None:
        """A body that ends in the middle of its last member is refused even where the checksum fits."""
        length = len(LABEL_BYTES) - HEADER_BYTES - 1
        self.assertIn("ends before", self.refused(sealed(LABEL_BYTES, 20, struct.pack("<I", length))))

    def test_name_that_is_no_text(self) -> None:
        """A name that is not UTF-8 is refused even where the checksum fits."""
        self.assertIn("no meaning", self.refused(sealed(LABEL_BYTES, len(LABEL_BYTES) - 1, b"\xff")))

    def refused(self, slot: bytes) -> str:
        """The sentence with which a slot is refused."""
        with self.assertRaises(BadMedia) as caught:
            decode_slot(slot)
        return caught.exception.message


class FindLabelTests(SynchronousTestCase):
    """Two slots hold one label."""

    OLD = encode_slot(LABEL.evolve(sequence=7))
    NEW = encode_slot(LABEL.evolve(sequence=8))
    TORN = OLD[:100] + NEW[100:101] + bytes(PAGE_BYTES - 101)

    def test_blank(self) -> None:
        """Zeroes, and anything that does not begin as a label does, are unlabelled."""
        for both in (bytes(LABELS_BYTES), b"\xff" * LABELS_BYTES, in_slots(b"DSTLABEK")):
            self.assertEqual(FoundLabel(None), find_label(both))
            self.assertTrue(find_label(both).unlabelled)

    def test_newer_counts(self) -> None:
        """Of two whole slots the one with the higher sequence counts, wherever it stands."""
        for slot, both in ((1, in_slots(self.OLD, self.NEW)), (0, in_slots(self.NEW, self.OLD))):
            self.assertEqual(FoundLabel(LABEL.evolve(sequence=8), slot), find_label(both))

    def test_one_slot(self) -> None:
        """One whole slot is enough, beside a blank one or a damaged one; damage is told."""
        for slot, both in ((0, in_slots(self.NEW)), (1, in_slots(b"", self.NEW))):
            self.assertEqual(FoundLabel(LABEL.evolve(sequence=8), slot), find_label(both))
        for slot, both in ((0, in_slots(self.OLD, self.TORN)), (1, in_slots(self.TORN, self.OLD))):
            found = find_label(both)
            self.assertEqual((LABEL.evolve(sequence=7), slot), (found.label, found.slot))
            self.assertIn("checksum", found.damage)
            self.assertFalse(found.unlabelled)

    def test_none_usable(self) -> None:
        """Damage in every slot that has a label is neither a label nor unlabelled media."""
        for both in (in_slots(self.TORN, self.TORN), in_slots(self.TORN), in_slots(b"", self.TORN)):
            found = find_label(both)
            self.assertIs(None, found.label)
            self.assertFalse(found.unlabelled)
            self.assertIn("checksum", found.damage)


class RecordTests(SynchronousTestCase):
    """What is asked of a record."""

    def test_order(self) -> None:
        """Records are ordered by claim first and sequence second; of claims the number counts first."""
        low, high = Claim(1, 99, numbered(9)), Claim(2, 1, numbered(0))
        ordered = [evolve(LABEL.record, claim=claim, sequence=n) for claim in (low, high) for n in (1, 2, 3)]
        shuffled = random.Random(3).sample(ordered, len(ordered))
        self.assertNotEqual(ordered, shuffled)
        self.assertEqual(ordered, sorted(shuffled, key=lambda record: record.order))

    def test_entries(self) -> None:
        """Members are found by identity and by name, and only those in sync may be a source."""
        record = LABEL.record
        self.assertEqual("b", getattr(record.entry(numbered(0x20)), "name", None))
        self.assertIs(None, record.entry(numbered(0x21)))
        self.assertEqual(numbered(0x50), getattr(record.named("a"), "node_id", None))
        self.assertIs(None, record.named("c"))
        self.assertEqual(["a"], [entry.name for entry in record.in_sync])
