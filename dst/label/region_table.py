"""
The region table: for every region of a member, its age and whether it is hot.

A region is I{hot} while a write to it may be in flight or not yet stable; its
I{age} is the epoch in which it was last cleared.  Two members whose entries are
cold with equal ages have equal, stable content there: the invariant of DST.

The table stands on the media in pages of 4 KiB, each in two slots.  A page is a
32-byte header and 254 entries, little-endian::

    header: 0 magic "DSTR"   4 CRC-32C of the page, this field as zero   8 page   12 entries
            16 sequence      24 first 8 bytes of the storage's id
    entry:  0 tag of the age 8 number of the age  12 flags, 1 = hot

B{Which slot is written.}  A page's last I{stable} image is never overwritten: a
new image goes to the other slot, again and again until a flush has made it
stable.  So what a torn or lost write falls back to is an image whose every
hot flag was still needed, and an entry that lost only a clear.  Falling back
to an image older than the last stable one could show a region as cold that was marked
since; that is why the slot follows stability and not parity.

Both slots bad: every entry of the page is hot with age I{none}.

No reactor here: this is what the table says, not how it is written.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Iterator

from crc32c import crc32c

from dst.label.format import Epoch
from dst.label.zone import ENTRIES_PER_PAGE, PAGE_BYTES

__all__ = ["FIRST_AGE", "PageImage", "RegionTable"]

_MAGIC = b"DSTR"
_HEADER = struct.Struct("<4sIIIQ8s")
_ENTRY = struct.Struct("<QII")
_HOT = 1
_SLOT_NONE = 1
"""The stable slot of a page that was never written: slot 0 is written first."""

FIRST_AGE = 1 << 31
"""The number of the age that a new storage's first member gets: no epoch that is counted up comes near it."""

PageImage = tuple[int, int, int, bytes]
"""Page, slot, sequence, the 4 KiB to write there."""


class RegionTable:
    """
    The entries of one member.

    @ivar regions: how many there are.
    """

    def __init__(self, regions: int, storage_id: bytes) -> None:
        self.regions = regions
        self._tags = array("Q", bytes(8 * regions))
        self._numbers = array("I", bytes(4 * regions))
        self._hot = bytearray(regions)
        self._storage_tag = storage_id[:8]
        self.pages = -(-regions // ENTRIES_PER_PAGE)
        self._sequence = array("Q", bytes(8 * self.pages))
        self._stable_slot = bytearray([_SLOT_NONE]) * self.pages
        self._unstable: dict[int, tuple[int, int]] = {}

    # -- entries

    def age(self, region: int) -> Epoch:
        """When it was last cleared."""
        return Epoch(self._tags[region], self._numbers[region])

    def is_hot(self, region: int) -> bool:
        """A write may be in flight or not yet stable there."""
        return bool(self._hot[region])

    def mark(self, region: int) -> None:
        """It is hot from the next write of its page on.  Safe at any time."""
        self._hot[region] = 1

    def clear(self, region: int, epoch: Epoch) -> None:
        """It is cold as of C{epoch}: the caller has proved that every receiver has equal, stable content."""
        self.set(region, epoch, hot=False)

    def set(self, region: int, age: Epoch, *, hot: bool) -> None:
        """Both halves of the entry at once."""
        self._tags[region] = age.tag
        self._numbers[region] = age.number
        self._hot[region] = hot

    def hot_between(self, first: int, end: int) -> int:
        """How many of the regions from C{first} on, before C{end}, are hot."""
        return self._hot.count(1, first, end)

    def hot_regions(self) -> Iterator[int]:
        """Every hot region, ascending."""
        at = self._hot.find(1)
        while at >= 0:
            yield at
            at = self._hot.find(1, at + 1)

    def same(self, region: int, other: RegionTable) -> bool:
        """
        Both are cold with equal ages that are not I{none}: equal, stable content (rule R5, turned round).
        """
        return not self._hot[region] and not other._hot[region] and self.same_age(region, other)

    def same_age(self, region: int, other: RegionTable) -> bool:
        """Both were cold last with equal ages that are not I{none}, whether or not they are cold now."""
        return (
            self._tags[region] == other._tags[region]
            and self._numbers[region] == other._numbers[region]
            and (self._tags[region] != 0 or self._numbers[region] != 0)
        )

    def differences(self, other: RegionTable) -> bytearray:
        """
        1 for every region that is not L{same} in both tables; a region that only one of them has is not.

        Whole pages that are equal are compared as memory: a table of a million entries takes milliseconds.
        """
        regions = min(self.regions, other.regions)
        differ = bytearray(regions) + b"\1" * (max(self.regions, other.regions) - regions)
        for first in range(0, regions, ENTRIES_PER_PAGE):
            last = min(first + ENTRIES_PER_PAGE, regions)
            tags = self._tags[first:last]
            if (
                tags == other._tags[first:last]
                and self._numbers[first:last] == other._numbers[first:last]
                and not any(self._hot[first:last])
                and not any(other._hot[first:last])
                and 0 not in tags
            ):
                continue
            for region in range(first, last):
                differ[region] = not self.same(region, other)
        return differ

    def tags(self) -> frozenset[int]:
        """The tags of all its ages."""
        return frozenset(self._tags)

    def newest(self, tag: int) -> int:
        """The highest number of an epoch of that tag that was counted up; 0 if there is none."""
        numbers = zip(self._tags, self._numbers, strict=True)
        return max((number for each, number in numbers if each == tag and number < FIRST_AGE), default=0)

    def fill(self, age: Epoch) -> None:
        """Every region is cold as of C{age}."""
        self._tags = array("Q", [age.tag]) * self.regions
        self._numbers = array("I", [age.number]) * self.regions
        self._hot = bytearray(self.regions)

    def resize(self, regions: int) -> None:
        """
        Have so many regions: new ones are hot with age I{none}, and those that are too many are forgotten.

        The media says so when the pages from the last one of before on have been written.
        """
        more = regions - self.regions
        pages = -(-regions // ENTRIES_PER_PAGE)
        more_pages = pages - self.pages
        if more > 0:
            self._tags.extend(bytes(more))
            self._numbers.extend(bytes(more))
            self._hot.extend(b"\1" * more)
            self._sequence.extend(bytes(more_pages))
            self._stable_slot.extend(bytes([_SLOT_NONE]) * more_pages)
        else:
            del self._tags[regions:], self._numbers[regions:], self._hot[regions:]
            del self._sequence[pages:], self._stable_slot[pages:]
            self._unstable = {page: written for page, written in self._unstable.items() if page < pages}
        self.regions, self.pages = regions, pages

    def take_over(self, other: RegionTable) -> None:
        """Have the entries of C{other}; what stands on this member's media is not changed yet."""
        self._tags = other._tags[:]
        self._numbers = other._numbers[:]
        self._hot = other._hot[:]

    # -- pages

    @staticmethod
    def page_of(region: int) -> int:
        """The page that a region's entry stands in."""
        return region // ENTRIES_PER_PAGE

    def next_image(self, page: int) -> PageImage:
        """
        What is to be written now to make the media say what this table says.

        The caller has at most one image of a page under way, and calls
        L{written} when the device has completed it.
        """
        self._sequence[page] += 1
        slot = 1 - self._stable_slot[page]
        self._unstable.pop(page, None)  # the image that stood there is being overwritten
        return page, slot, self._sequence[page], self._encode(page, self._sequence[page])

    def written(self, image: PageImage) -> None:
        """The device completed the write of C{image}; it is not stable before the next flush."""
        page, slot, sequence, _ = image
        if page >= self.pages:
            return  # it was to become one
        self._unstable[page] = (slot, sequence)

    def flush_begins(self) -> dict[int, tuple[int, int]]:
        """What a flush that is asked for now will make stable; to be given to L{flushed}."""
        return dict(self._unstable)

    def flushed(self, covered: dict[int, tuple[int, int]]) -> None:
        """The flush has completed."""
        for page, written in covered.items():
            if self._unstable.get(page) == written:
                del self._unstable[page]
                self._stable_slot[page] = written[0]

    def images_elsewhere(self) -> list[bytes]:
        """What slot 0 of every page is to say at another place, where nothing has stood; nothing is changed here."""
        return [self._encode(page, self._sequence[page] + 1) for page in range(self.pages)]

    def stands_elsewhere(self) -> None:
        """All that L{images_elsewhere} returned has become stable there, and nothing was written here meanwhile."""
        for page in range(self.pages):
            self._sequence[page] += 1
        self._stable_slot = bytearray(self.pages)
        self._unstable = {}

    def _encode(self, page: int, sequence: int) -> bytes:
        first = page * ENTRIES_PER_PAGE
        last = min(first + ENTRIES_PER_PAGE, self.regions)
        columns = zip(self._tags[first:last], self._numbers[first:last], self._hot[first:last], strict=True)
        entries = b"".join([_ENTRY.pack(tag, number, hot) for tag, number, hot in columns])
        head = _HEADER.pack(_MAGIC, 0, page, last - first, sequence, self._storage_tag)
        body = entries + bytes(PAGE_BYTES - _HEADER.size - len(entries))
        checksum = crc32c(body, crc32c(head))
        return _HEADER.pack(_MAGIC, checksum, page, last - first, sequence, self._storage_tag) + body

    def load_page(self, page: int, images: Iterable[bytes]) -> bool:
        """
        Take over what the media says: the newest whole image of the two.  Regions that it does not know are hot with
        age I{none}: it was written when the storage was smaller; what it knows beyond the last region does not count.

        @param images: the 4 KiB of slot 0 and of slot 1.
        @return: C{False} when neither is whole; the page is then hot with age I{none}.
        """
        best, best_sequence, best_slot = b"", -1, _SLOT_NONE
        for slot, image in enumerate(images):
            sequence = self._check(page, image)
            if sequence > best_sequence:
                best, best_sequence, best_slot = image, sequence, slot
        first = page * ENTRIES_PER_PAGE
        if best_sequence < 0:
            for region in range(first, min(first + ENTRIES_PER_PAGE, self.regions)):
                self.set(region, Epoch(), hot=True)
            return False
        self._sequence[page] = best_sequence
        self._stable_slot[page] = best_slot
        count = min(ENTRIES_PER_PAGE, self.regions - first)
        known = min(count, int(_HEADER.unpack_from(best)[3]))
        at = _HEADER.size
        for region in range(first + known, first + count):
            self.set(region, Epoch(), hot=True)
        count = known
        for region, (tag, number, flags) in enumerate(_ENTRY.iter_unpack(best[at : at + 16 * count]), first):
            self._tags[region] = tag
            self._numbers[region] = number
            self._hot[region] = flags & _HOT
        return True

    def _check(self, page: int, image: bytes) -> int:
        """The sequence of a whole image of this page of this storage, else -1."""
        magic, checksum, at, count, sequence, storage_tag = _HEADER.unpack_from(image)
        if magic != _MAGIC or at != page or count > ENTRIES_PER_PAGE or storage_tag != self._storage_tag:
            return -1
        head = _HEADER.pack(magic, 0, at, count, sequence, storage_tag)
        whole = crc32c(bytes(image[_HEADER.size :]), crc32c(head)) == checksum
        return int(sequence) if whole else -1
