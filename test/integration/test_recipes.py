"""Every recipe of the documentation is followed, command by command, on machines of its own."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase, TestCase

from test.integration.daemon_process import ROOT
from test.integration.debian_tools import needs
from test.integration.recipe import MACHINES, Command, File, follow, pattern_of, steps_of

RECIPES = ROOT / "docs" / "recipes"


class RecipeTests(TestCase):
    """One page each."""

    timeout = 240

    async def follow(self, name: str) -> float:
        """Do what a page says."""
        directory = Path(self.mktemp()).resolve()
        directory.mkdir(parents=True)
        return await follow(self, RECIPES / f"{name}.rst", directory)

    @needs("nbdinfo", "nbdcopy", "mkfs.ext4")
    async def test_two_machines(self) -> None:
        """From nothing to a mirrored disk over TLS."""
        seconds = await self.follow("two-machines")
        print(f"(from nothing to a mirrored disk over TLS, lost and healed: {seconds:.0f} s)", end=" ")


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
