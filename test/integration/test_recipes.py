"""Every recipe of the documentation is followed, command by command, on machines of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase, TestCase

from test.integration.daemon_process import ROOT
from test.integration.debian_tools import needs, run
from test.integration.recipe import MACHINES, Command, File, follow, pattern_of, steps_of

RECIPES = ROOT / "docs" / "recipes"


class RecipeTests(TestCase):
    """One page each."""

    timeout = 240

    async def follow(self, name: str) -> float:
        """Do what a page says."""
        directory = Path(tempfile.mkdtemp(prefix="dst-"))  # short: it has UNIX sockets in it
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        self.addCleanup(self.unmount, directory)
        return await follow(self, RECIPES / f"{name}.rst", directory)

    async def unmount(self, directory: Path) -> None:
        """Take away what a page that was not followed to its end has mounted."""
        with open("/proc/self/mounts") as mounts:
            mounted = [line.split()[1] for line in mounts if line.split()[1].startswith(str(directory))]
        for place in reversed(mounted):
            await run("umount", "--lazy", place, expect=None)
        for loop in directory.glob("*/loop"):
            await run("losetup", "--detach", loop.read_text().strip(), expect=None)

    @needs("nbdinfo", "nbdcopy", "mkfs.ext4")
    async def test_two_machines(self) -> None:
        """From nothing to a mirrored disk over TLS."""
        seconds = await self.follow("two-machines")
        print(f"(from nothing to a mirrored disk over TLS, lost and healed: {seconds:.0f} s)", end=" ")

    @needs("qemu-img", "qemu-io", "qemu-storage-daemon", "virt-xml-validate")
    async def test_virtual_machine(self) -> None:
        """QEMU's tools, its storage daemon through a restart, and libvirt's own schema."""
        await self.follow("virtual-machine")

    @needs("nbdfuse", "fusermount3", "losetup", "mkfs.ext4", "mount")
    async def test_file_system(self) -> None:
        """ext4 over nbdfuse and a loop device."""
        if not os.path.exists("/dev/fuse") or not os.path.exists("/dev/loop-control"):
            self.skipTest("mounting a file system needs /dev/fuse and loop devices")
        await self.follow("file-system")

    @needs("qemu-io", "nbdcopy", "nbdinfo")
    async def test_backup(self) -> None:
        """A copy of one moment, while the disk is written to."""
        await self.follow("backup")

    @needs("qemu-io")
    async def test_replacing_a_disk(self) -> None:
        """Another disk at a member's place, and a restart with it."""
        await self.follow("replacing-a-disk")

    @needs("qemu-io")
    async def test_growing(self) -> None:
        """Media first, then the storage."""
        await self.follow("growing")

    @needs("qemu-io")
    async def test_witness(self) -> None:
        """The owner of a disk is killed, another one takes over, and it is taken back."""
        await self.follow("witness")

    @needs("qemu-io")
    async def test_moving_a_node(self) -> None:
        """A node is carried to another machine."""
        await self.follow("moving-a-node")


class FollowingTests(TestCase):
    """Pages that are wrong."""

    timeout = 60

    async def follow(self, *lines: str) -> None:
        """Do what a page with this block says."""
        directory = Path(self.mktemp()).resolve()
        directory.mkdir(parents=True)
        page = directory / "page.rst"
        page.write_text("\n".join([".. code-block:: console", "", *(f"   {line}" for line in lines), ""]))
        await follow(self, page, directory / "machines")

    async def refused(self, *lines: str) -> str:
        """The complaint about such a page."""
        try:
            await self.follow(*lines)
        except AssertionError as error:
            return str(error)
        raise self.failureException(f"it was followed: {lines}")

    async def test_noticed(self) -> None:
        """A command that fails, and one that says something else, is named with its line."""
        self.assertIn("page.rst:4: alpha$ false\nit has to end with 0", await self.refused("$ true", "$ false"))
        self.assertIn("it has to say: healthy", await self.refused("$ echo degraded", "healthy"))
        self.assertIn("it has to say: one", await self.refused("$ echo one; echo two", "two", "one"))

    async def test_machines(self) -> None:
        """Machines have directories and addresses of their own, and reach each other."""
        await self.follow(
            "beta$ touch here",
            "beta$ ls",
            "here",
            "gamma$ test ! -e here",
            "gamma$ ip -brief address show eth0",
            "... 192.0.2.3/24 ...",
            "beta$ (timeout 20 python -m http.server --bind 192.0.2.2 8000 >log 2>&1) &",
            'gamma$ test -n "$(python -c \'import urllib.request as u; print(u.urlopen("http://192.0.2.2:8000"))\')"',
        )


class DocumentsTests(SynchronousTestCase):
    """The pages as documents."""

    def test_all_are_followed(self) -> None:
        """No page escapes; those that are followed are there."""
        pages = {path.stem for path in RECIPES.glob("*.rst")} - {"index"}
        tests = {name.removeprefix("test_") for name in dir(RecipeTests) if name.startswith("test_")}
        self.assertEqual(pages, {name.replace("_", "-") for name in tests})

    def test_steps(self) -> None:
        """Every page has commands, on machines that there are; every file has one as well."""
        for path in RECIPES.glob("*.rst"):
            if path.stem == "index":
                continue
            steps = list(steps_of(path))
            self.assertTrue(any(isinstance(step, Command) for step in steps), path)
            self.assertTrue({step.machine for step in steps} <= set(MACHINES), path)
            self.assertTrue(all(step.text for step in steps if isinstance(step, File)), path)

    def test_shown_output(self) -> None:
        """Other numbers and times fit what is shown; other words do not."""
        shown = pattern_of("vol  mirror  1.00 GiB  degraded  23 s")
        self.assertRegex("vol      mirror  224 GiB  degraded  2 min", shown)
        self.assertNotRegex("vol      mirror  224 GiB  healthy  2 min", shown)
