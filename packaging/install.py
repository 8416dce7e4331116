"""
Install DST for a whole machine, as C{make install} does: C{python packaging/install.py --destdir DIRECTORY}.

A distribution's own Python packages are older than those that DST needs, so it brings them along, where no other
program sees them::

    /usr/lib/dst                     DST and the packages below it
    /usr/bin/dst, /usr/sbin/dstd     the programs: they look there and nowhere else
    /usr/share/man                   dst(1), dst-COMMAND(1), dst.toml(5), dstd(8)
    /usr/share/dst                   alert rules for Prometheus, a dashboard for Grafana
    /usr/lib/systemd/system          dst.service, dst@.service; sysusers.d and tmpfiles.d beside it
    /etc/dst/dst.toml                kept if it is there
    /etc/logrotate.d/dst

A plugin of somebody else goes to the same place: C{pip install --no-deps --target /usr/lib/dst PLUGIN}.
"""

from __future__ import annotations

import argparse
import compileall
import configparser
import gzip
import os
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

from man_pages import write_all

ROOT = Path(__file__).resolve().parents[1]
PACKAGING = ROOT / "packaging"

LAUNCHER = """\
#!{python} -I
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "lib", "dst"))
from {module} import main

main()
"""

PROGRAMS = {"bin/dst": "dst.admin.cli", "sbin/dstd": "dst.tap"}


class Installation:
    """One tree of files below C{destdir}, for a machine where it is the root."""

    def __init__(self, destdir: Path, prefix: Path, python: str) -> None:
        self.destdir = destdir
        self.prefix = prefix
        self.python = python
        self.library = prefix / "lib" / "dst"

    def at(self, path: Path | str) -> Path:
        """Where what is going to be C{path} is now."""
        return self.destdir / str(path).lstrip("/")

    def put(self, source: Path, target: Path | str, mode: int = 0o644) -> None:
        """One file."""
        self.write(target, source.read_bytes(), mode)

    def write(self, target: Path | str, content: bytes, mode: int = 0o644) -> None:
        """One file with this in it."""
        path = self.at(target)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)

    def everything(self, scratch: Path, dependencies: bool) -> None:
        """
        All that belongs to an installation.

        @param scratch: where manual pages may be made.
        @param dependencies: bring along the packages that DST needs.
        """
        self.packages(dependencies)
        self.programs()
        self.manual(scratch)
        self.monitoring()
        self.services()

    def packages(self, dependencies: bool) -> None:
        """DST, and what it needs, compiled."""
        library = self.at(self.library)
        library.mkdir(parents=True, exist_ok=True)
        if dependencies:
            settings = configparser.ConfigParser()
            settings.read(ROOT / "setup.cfg")
            wanted = settings["options"]["install_requires"].split("\n")
            pip = [self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]
            subprocess.run([*pip, "--target", str(library), *filter(None, map(str.strip, wanted))], check=True)
            shutil.rmtree(library / "bin", ignore_errors=True)  # programs of others, with the wrong interpreter
        shutil.rmtree(library / "dst", ignore_errors=True)
        for package in ("dst", "twisted/plugins"):
            unwanted = shutil.ignore_patterns("__pycache__", "dropin.cache", "*.so", "*.c", "*.h")
            shutil.copytree(ROOT / package, library / package, ignore=unwanted, dirs_exist_ok=True)
        self.compiled_parts(library / "dst" / "native")
        compileall.compile_dir(library, quiet=2, stripdir=str(self.destdir))

    def compiled_parts(self, target: Path) -> None:
        """
        What need not be compiled, but is faster so; for C{python}, which is not the one of the checkout.

        What cannot be is said, and is done in Python.
        """
        names = ("INCLUDEPY", "EXT_SUFFIX", "CC")
        ask = f"import sysconfig; print(*map(sysconfig.get_config_var, {names!r}), sep='\\n')"
        said = subprocess.run([self.python, "-I", "-c", ask], capture_output=True, text=True, check=True).stdout
        include, suffix, usual = said.splitlines()
        compiler = os.environ.get("CC") or usual
        for source in sorted((ROOT / "dst" / "native").glob("*.c")):
            made = target / f"{source.stem}{suffix}"
            options = ["-O2", "-std=c11", "-fPIC", "-shared", f"-I{include}", "-o", str(made), str(source)]
            refusal = "" if (Path(include) / "Python.h").exists() else f"{include} has no Python.h (python3-dev)"
            if not refusal:
                try:
                    done = subprocess.run(
                        [*shlex.split(compiler), *options], capture_output=True, text=True, check=False
                    )
                    refusal = "" if done.returncode == 0 else done.stderr.strip() or f"{compiler} failed"
                except OSError as error:
                    refusal = str(error)
            if refusal:
                made.unlink(missing_ok=True)
                print(
                    f"dst.native.{source.stem} is not compiled, and its work done in Python, "
                    f"which takes more processor time: {refusal}",
                    file=sys.stderr,
                )

    def programs(self) -> None:
        """What people and supervisors call."""
        for path, module in PROGRAMS.items():
            text = LAUNCHER.format(python=self.python, module=module)
            assert " " not in self.python, self.python  # a `#!` line has one argument
            self.write(self.prefix / path, text.encode(), 0o755)

    def manual(self, scratch: Path) -> None:
        """The manual pages, compressed, always to the same bytes."""
        for page in write_all(scratch):
            section = page.suffix[1:]
            target = self.prefix / "share" / "man" / f"man{section}" / f"{page.name}.gz"
            self.write(target, gzip.compress(page.read_bytes(), mtime=0))

    def monitoring(self) -> None:
        """What Prometheus and Grafana are given."""
        for name in ("dst-alerts.yml", "dst-dashboard.json"):
            self.put(PACKAGING / "monitoring" / name, self.prefix / "share" / "dst" / name)

    def services(self) -> None:
        """Units, users, directories, rotation and the topology to begin with."""
        library = self.prefix / "lib"
        daemon, usual = str(self.prefix / "sbin" / "dstd"), "/usr/sbin/dstd"
        for unit in sorted((PACKAGING / "systemd").glob("*.service")):
            text = unit.read_text().replace(usual, daemon)
            self.write(library / "systemd" / "system" / unit.name, text.encode())
        self.put(PACKAGING / "systemd" / "sysusers.conf", library / "sysusers.d" / "dst.conf")
        self.put(PACKAGING / "systemd" / "tmpfiles.conf", library / "tmpfiles.d" / "dst.conf")
        self.put(PACKAGING / "logrotate" / "dst", "/etc/logrotate.d/dst")
        if not self.at("/etc/dst/dst.toml").exists():
            self.put(PACKAGING / "dst.toml", "/etc/dst/dst.toml", stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="Install DST for a whole machine.")
    parser.add_argument("--destdir", type=Path, default=Path("/"))
    parser.add_argument("--prefix", type=Path, default=Path("/usr"))
    parser.add_argument("--python", default="/usr/bin/python3", help="what the programs run in: 3.11 or later")
    parser.add_argument("--no-dependencies", action="store_true", help="they are where --python finds them")
    parser.add_argument("--scratch", type=Path, default=ROOT / "build" / "man")
    options = parser.parse_args()
    if not options.prefix.is_absolute():
        parser.error("--prefix: expected an absolute path, as /usr")
    installation = Installation(options.destdir, options.prefix, options.python)
    installation.everything(options.scratch, not options.no_dependencies)


if __name__ == "__main__":
    main()
