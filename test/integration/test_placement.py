"""DST on a machine: what C{make install} puts there, the units, the manual, the log."""

from __future__ import annotations

import atexit
import configparser
import gzip
import os
import re
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import ClassVar

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dst.admin.cli import cli
from dst.admin.places import SYSTEM_SOCKET
from dst.cluster.config import load
from dst.cluster.listening import as_listeners
from test.integration.cluster import Program, soon
from test.integration.daemon_process import ROOT, DaemonProcess
from test.integration.debian_tools import ENVIRONMENT, needs, run

SYSTEMD = ROOT / "packaging" / "systemd"

EXPOSURE_MAX = 2.0
"""C{systemd-analyze security} says 1.6; above this something was taken back."""


class Installation:
    """One for all tests, since it takes a while."""

    root: ClassVar[Path | None] = None

    @classmethod
    async def made(cls, case: TestCase) -> Path:
        """Where everything is."""
        if cls.root is None:
            root = Path(tempfile.mkdtemp(prefix="dst-placement-"))
            command = [sys.executable, "packaging/install.py", "--destdir", str(root), "--python", sys.executable]
            program = Program(case, *command, "--no-dependencies", "--scratch", str(root / "scratch"))
            atexit.register(shutil.rmtree, root)
            await program.success()
            cls.root = root
        return cls.root


class InstallTests(TestCase):
    """The tree that is installed."""

    timeout = 240

    async def setUp(self) -> None:
        """It is there; the working directory of trial is another one."""
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(ROOT)
        self.root = await Installation.made(self)

    async def test_programs(self) -> None:
        """The programs run what is installed, not what the checkout has, wherever they are called from."""
        os.chdir("/")
        said = await run(str(self.root / "usr/bin/dst"), "--version")
        self.assertRegex(said, r"\Adst, version \d+\.\d+")
        said = await run(str(self.root / "usr/bin/dst"), "check", str(self.root / "etc/dst/dst.toml"))
        self.assertIn("is fine", said)
        said = await run(str(self.root / "usr/sbin/dstd"), "--config", str(self.root / "etc/dst/dst.toml"), "--check")
        self.assertIn("dst.toml: fine", said)
        launcher = (self.root / "usr/bin/dst").read_text()
        where = launcher[: launcher.rindex("main()")] + "import dst; print(dst.__file__)"
        probe = self.root / "usr/bin/probe"
        probe.write_text(where)
        probe.chmod(0o755)
        self.assertEqual(str(self.root / "usr/lib/dst/dst/__init__.py"), (await run(str(probe))).strip())

    async def test_complete(self) -> None:
        """The page, plugins and every module are there; nothing of anybody's machine is."""
        library = self.root / "usr/lib/dst"
        for path in (ROOT / "dst").rglob("*"):
            made_here = "__pycache__" in path.parts or path.name == "dropin.cache"
            if path.is_file() and not made_here and path.suffix not in (".c", ".h", ".so"):
                self.assertTrue((library / path.relative_to(ROOT)).is_file(), path)
        self.assertTrue((library / "twisted/plugins/dst_plugin.py").is_file())
        for name in ("bin/dst", "sbin/dstd"):
            self.assertNotIn(str(self.root), (self.root / "usr" / name).read_text())

    async def test_compiled(self) -> None:
        """What need not be compiled is, for the Python that it is installed for; or it is said aloud what is not."""
        library = str(self.root / "usr/lib/dst")
        ask = f"import sys; sys.path.insert(0, {library!r}); import dst.native as n; print(n.__file__, *n.compiled())"
        environment = {**ENVIRONMENT, "DST_PURE": ""}
        place, *made = (
            await Program(self, sys.executable, "-I", "-c", ask, environment=environment).success()
        ).split()
        self.assertTrue(place.startswith(library), place)
        sources = sorted(path.stem for path in (ROOT / "dst" / "native").glob("*.c"))
        if shutil.which("cc") and (Path(sysconfig.get_path("include")) / "Python.h").exists():
            self.assertEqual(sources, sorted(made))

    async def test_no_compiler(self) -> None:
        """Without a compiler it is installed all the same, and works."""
        root = Path(tempfile.mkdtemp(prefix="dst-plain-"))
        self.addCleanup(shutil.rmtree, root)
        command = [sys.executable, "packaging/install.py", "--destdir", str(root), "--python", sys.executable]
        options = ["--no-dependencies", "--scratch", str(root / "scratch")]
        said = await Program(self, *command, *options, environment={**ENVIRONMENT, "CC": "false"}).success()
        self.assertIn("dst.native._files is not compiled, and its work done in Python", said)
        self.assertEqual([], list((root / "usr/lib/dst/dst/native").glob("*.so")))
        self.assertIn("version", await run(str(root / "usr/bin/dst"), "--version"))

    async def test_configuration_is_kept(self) -> None:
        """A second installation leaves the topology of a person alone."""
        path = self.root / "etc/dst/dst.toml"
        before = path.read_text()
        self.addCleanup(path.write_text, before)
        path.write_text(before + "# mine\n")
        command = [sys.executable, "packaging/install.py", "--destdir", str(self.root), "--python", sys.executable]
        await Program(self, *command, "--no-dependencies", "--scratch", str(self.root / "scratch")).success()
        self.assertTrue(path.read_text().endswith("# mine\n"))

    @needs("dpkg-deb")
    async def test_debian_package(self) -> None:
        """
        The package has the same files, all of root, what a person changes as conffiles, and asks for the version of
        Python that its packages are for.
        """
        target = Path(tempfile.mkdtemp(prefix="dst-deb-"))
        self.addCleanup(shutil.rmtree, target)
        build = [sys.executable, "packaging/debian_package.py", "--python", sys.executable, "--target", str(target)]
        package = (await Program(self, *build, "--no-dependencies").success()).splitlines()[-1]
        listed = await run("dpkg-deb", "--contents", package)
        files = {line.split()[-1] for line in listed.splitlines() if not line.startswith("d")}
        self.assertEqual({"root/root"}, {line.split()[1] for line in listed.splitlines()})
        ours = {f"./{path.relative_to(self.root)}" for path in self.root.rglob("*") if path.is_file()}
        ours = {name for name in ours if not name.startswith(("./scratch/", "./usr/bin/probe"))}
        self.assertEqual(set(), {name for name in ours - files if "__pycache__" not in name})
        self.assertIn("./usr/share/doc/dst/copyright", files)
        control = await run("dpkg-deb", "--field", package, "Depends")
        major, minor = sys.version_info[:2]
        self.assertIn(f"python3 (>= {major}.{minor}), python3 (<< {major}.{minor + 1})", control)
        conffiles = await run("dpkg-deb", "--info", package, "conffiles")
        self.assertEqual(["/etc/dst/dst.toml", "/etc/logrotate.d/dst"], conffiles.split())
        for script in ("postinst", "prerm", "postrm"):
            path = target / script
            path.write_text(await run("dpkg-deb", "--info", package, script))
            await run("sh", "-n", str(path))

    @needs("man", "groff")
    async def test_manual(self) -> None:
        """Every command has its page, and each page renders without a warning."""
        pages = sorted((self.root / "usr/share/man").rglob("*.gz"))
        names = {page.name for page in pages}
        self.assertTrue({"dst.1.gz", "dstd.8.gz", "dst.toml.5.gz"} <= names, names)
        for command in cli.commands:
            self.assertIn(f"dst-{command}.1.gz", names)
        for page in pages:
            text = gzip.decompress(page.read_bytes()).decode()
            plain = self.root / "scratch" / "rendered"
            plain.write_text(text)
            # The table of node kinds in dst.toml(5) is wider than 78 columns, as it is in the documentation.
            said = await run("groff", "-t", "-man", "-Tutf8", "-rLL=118n", "-ww", "-P-cbou", str(plain), expect=None)
            self.assertNotRegex(said, r"(?m)^(troff|grotty|tbl|groff): ", page.name)
            for section in ("NAME", "SYNOPSIS") if page.name != "dst.toml.5.gz" else ("NAME",):
                self.assertRegex(said, rf"(?m)^{section}$", page.name)

    @needs("man")
    async def test_page_is_the_help(self) -> None:
        """What a page says of an option is what the help says."""
        page = self.root / "usr/share/man/man1/dst-replace.1.gz"
        said = " ".join((await run("man", "-l", str(page))).split())
        self.assertIn("dst replace vol b 'file:/srv/new.img?size=64G'", said)
        self.assertIn("-y, --yes", said)

    @needs("systemd-analyze")
    async def test_units(self) -> None:
        """
        systemd knows every directive of the units, and finds the daemon as little exposed as it can be with a network
        and disks.
        """
        units = self.root / "usr/lib/systemd/system"
        for name, shown in (("dst.service", "dst.service"), ("dst@.service", "dst@x.service")):
            unit = units / name
            unit.write_text(unit.read_text().replace("/usr/sbin/dstd", str(self.root / "usr/sbin/dstd")))
            said = await run("systemd-analyze", "verify", "--man=no", str(units / shown), expect=None)
            ours = [line for line in said.splitlines() if "dst" in line]
            self.assertEqual([], ours)
            said = await run("systemd-analyze", "security", "--offline=true", "--no-pager", str(unit), expect=None)
            found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
            assert found is not None, said
            self.assertLessEqual(float(found[1]), EXPOSURE_MAX)

    def test_unit_of_several(self) -> None:
        """The unit for several daemons differs in its names alone."""
        one, several = (configuration(SYSTEMD / name) for name in ("dst.service", "dst@.service"))
        self.assertEqual(one.keys(), several.keys())
        different = {key for key in one if one[key] != several[key]}
        self.assertEqual({"Description", "ExecStart", "StateDirectory", "RuntimeDirectory"}, different)

    def test_time_to_stop(self) -> None:
        """systemd waits for longer than the daemon itself waits for its steps."""
        from dst.cluster.assembly import CLOSE_S_MAX, DRAIN_S_MAX

        limit = int(configuration(SYSTEMD / "dst.service")["TimeoutStopSec"])
        self.assertGreater(limit, 2 * CLOSE_S_MAX + 2 * DRAIN_S_MAX)


def configuration(unit: Path) -> dict[str, str]:
    """What a unit says; of a directive that stands there several times, the last."""
    parser = configparser.RawConfigParser(strict=False, delimiters=["="], comment_prefixes=["#"])
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit)
    return {key: value for section in parser.sections() for key, value in parser[section].items()}


class DefaultTests(SynchronousTestCase):
    """What is installed before anybody has said anything."""

    def test_closed(self) -> None:
        """No port is open, not even to the users of the machine: there are sockets, of the group or with a gate."""
        topology = load(ROOT / "packaging" / "dst.toml")
        self.assertEqual("unix:/run/dst/admin.sock:mode=666", topology.daemon.admin)
        self.assertIn(SYSTEM_SOCKET, topology.daemon.admin)
        data = [listener.endpoint for several in as_listeners(topology.listeners).values() for listener in several]
        self.assertEqual(["unix:/run/dst/nbd.sock:mode=660"], data)


TOPOLOGY = """\
[daemon]
admin = "tcp:0:interface=127.0.0.1"
[nodes.a]
uri = "memory:?size=1M"
"""


class LogTests(TestCase):
    """A log in a file."""

    timeout = 120

    @needs("logrotate")
    async def test_rotation(self) -> None:
        """logrotate, with the rules that are installed, moves the log away; the daemon goes on in a new file."""
        directory = Path(self.mktemp()).resolve()
        logs = directory / "log"
        logs.mkdir(parents=True)
        logs.chmod(0o755)
        (directory / "dst.toml").write_text(TOPOLOGY)
        log = logs / "dst.log"
        daemon = DaemonProcess(self, "--config", str(directory / "dst.toml"), "--log-file", str(log))

        async def started() -> bool:
            return log.exists() and "everything is started" in log.read_text()

        await soon(started, lambda: daemon.errors)
        rules = (ROOT / "packaging/logrotate/dst").read_text()
        rules = (
            rules.replace("/var/log/dst", str(logs)).replace("\tsu dst dst\n", "").replace("\tdelaycompress\n", "")
        )
        command = re.search(r"systemctl kill --signal=(\w+) .*", rules)
        assert command is not None, rules
        (directory / "rules").write_text(rules.replace(command[0], f"kill -{command[1]} {daemon.process_id}"))
        (directory / "rules").chmod(0o644)
        state = str(directory / "state")
        await run("logrotate", "--force", "--state", state, str(directory / "rules"))

        async def opened_again() -> bool:
            return log.exists()

        await soon(opened_again, lambda: str(list(logs.iterdir())))
        await daemon.stop()
        (old,) = logs.glob("dst.log.1.gz")
        self.assertIn("everything is started", gzip.decompress(await deferToThread(old.read_bytes)).decode())
        self.assertNotIn("everything is started", log.read_text())
        self.assertIn("admin: stopped", log.read_text())
        self.assertEqual("", daemon.output)
