"""A file system on the mirror: brought there with QEMU's tools, checked, mounted, used while a node is away."""

from __future__ import annotations

import filecmp
import os
import random
import shutil
import sysconfig
from pathlib import Path

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, TestCase

from test.integration.cluster import MirrorOfThree, Program, soon
from test.integration.debian_tools import needs, run

MIB = 1 << 20


@needs("mkfs.ext4", "e2fsck")
class Ext4Tests(TestCase):
    """An ext4 image of a real directory tree."""

    timeout = 150

    async def setUp(self) -> None:
        """A mirror, and beside it an image of exactly its size."""
        self.cluster = MirrorOfThree(self, size="224M", region="1M")
        await self.cluster.start()
        self.directory = self.cluster.directory
        self.tree = self.directory / "tree"
        await deferToThread(self.grow_tree)
        self.image = str(self.directory / "image")
        with open(self.image, "wb") as image:
            image.truncate(self.cluster.size)
        await run("mkfs.ext4", "-q", "-F", "-d", str(self.tree), self.image)

    def grow_tree(self) -> None:
        """Some 100 MB: Python's own library, with its thousands of small files, and some large ones."""
        library = Path(sysconfig.get_path("stdlib"))
        ignored = shutil.ignore_patterns("site-packages", "dist-packages", "__pycache__", "test", "tests")
        shutil.copytree(library, self.tree / "library", ignore=ignored, symlinks=True)
        noise = random.Random(1)
        size = sum(path.stat().st_size for path in self.tree.rglob("*") if path.is_file() and not path.is_symlink())
        for number in range(4):
            (self.tree / f"large{number}").write_bytes(noise.randbytes(max(4 * MIB, (100 * MIB - size) // 4)))

    def assert_same_trees(self, found: Path) -> None:
        """Every file of the tree is in C{found}, with its content."""
        names = [str(path.relative_to(self.tree)) for path in self.tree.rglob("*") if path.is_file()]
        self.assertGreater(len(names), 500)
        _same, different, missing = filecmp.cmpfiles(self.tree, found, names, shallow=False)
        self.assertEqual(([], []), (different, missing))

    async def convert(self) -> None:
        """Bring the image to the mirror."""
        await run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", self.image, self.cluster.uri)

    @needs("qemu-img", "nbdcopy")
    async def test_image(self) -> None:
        """
        qemu-img brings an image to the mirror and finds it equal; what nbdcopy brings back, and each node's
        file alone, is a clean file system.
        """
        await self.convert()
        said = await run("qemu-img", "compare", "-f", "raw", "-F", "raw", self.image, self.cluster.uri)
        self.assertIn("Images are identical.", said)
        back = str(self.directory / "back")
        await run("nbdcopy", self.cluster.uri, back)
        await run("cmp", self.image, back)
        await run("e2fsck", "-fn", back)
        await self.cluster.stop()
        self.assertEqual({}, self.cluster.unequal_legs())
        for name in self.cluster.NODES:
            await run("e2fsck", "-fn", str(self.cluster.leg(name)))

    @needs("qemu-img", "nbdfuse", "fusermount3", "losetup", "mount")
    async def test_mounted(self) -> None:
        """
        Through nbdfuse and a loop device the file system is mounted and used, before, while and after a node is
        away; unmounted it is clean on every node, and one node's file alone can be mounted.
        """
        if os.geteuid() != 0 or not os.path.exists("/dev/fuse") or not os.path.exists("/dev/loop-control"):
            self.skipTest("mounting a file system needs root, /dev/fuse and loop devices")
        await self.convert()
        disk, mounted = self.directory / "disk", self.directory / "mounted"
        disk.mkdir()
        mounted.mkdir()
        fuse = Program(self, "nbdfuse", str(disk), self.cluster.uri)
        self.addCleanup(run, "fusermount3", "-u", "-z", str(disk), expect=None)

        async def there() -> bool:
            return (disk / "nbd").exists() or fuse.code is not None

        await soon(there, lambda: fuse.output)
        loop = await self.mount(disk / "nbd", mounted)
        await deferToThread(self.assert_same_trees, mounted)
        await deferToThread(self.use, mounted, "before")
        await self.cluster.kill("b")
        await deferToThread(self.use, mounted, "while")
        await self.cluster.until_state("b", "absent")
        await self.cluster.launch("b")
        await deferToThread(self.use, mounted, "after")
        await self.cluster.until_whole()

        await run("umount", str(mounted))
        await run("losetup", "--detach", loop)
        await run("fusermount3", "-u", str(disk))
        await fuse.success()
        await self.cluster.stop()
        self.assertEqual({}, self.cluster.unequal_legs())
        for name in self.cluster.NODES:
            await run("e2fsck", "-fn", str(self.cluster.leg(name)))
        await self.mount(self.cluster.leg("c"), mounted, "-o", "ro")
        await deferToThread(self.assert_used, mounted, "before", "while", "after")

    async def mount(self, image: Path, where: Path, *options: str) -> str:
        """Mount over a loop device until the end of the test; @return: the device."""
        try:
            loop = (await run("losetup", "--find", "--show", str(image))).strip()
        except AssertionError as error:
            raise SkipTest(f"no loop device can be had here: {error}") from None
        self.addCleanup(run, "losetup", "--detach", loop, expect=None)
        self.addCleanup(run, "umount", "--lazy", str(where), expect=None)
        await run("mount", "-t", "ext4", *options, loop, str(where))
        return loop

    def use(self, root: Path, when: str) -> None:
        """What people do: copy, write and sync, rename, remove, read."""
        place = root / when
        shutil.copytree(self.tree / "library" / "encodings", place / "copied")
        with open(place / "written", "wb") as file:
            file.write(random.Random(when).randbytes(8 * MIB))
            file.flush()
            os.fsync(file.fileno())
        os.rename(place / "copied", place / "renamed")
        (place / "removed").write_bytes(bytes(MIB))
        os.sync()
        (place / "removed").unlink()
        self.assert_used(root, when)

    def assert_used(self, root: Path, *times: str) -> None:
        """What L{use} left."""
        for when in times:
            place = root / when
            self.assertEqual({"renamed", "written"}, {path.name for path in place.iterdir()})
            self.assertTrue((place / "written").read_bytes() == random.Random(when).randbytes(8 * MIB), when)
            names = [path.name for path in (self.tree / "library" / "encodings").iterdir()]
            _same, different, missing = filecmp.cmpfiles(
                self.tree / "library" / "encodings", place / "renamed", names, shallow=False
            )
            self.assertEqual(([], []), (different, missing))
