"""
A package for Debian of what C{make install} installs: C{python packaging/debian_package.py}.

It is for the machine's own version of Python and its architecture, because the packages that it brings along are.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from install import Installation

from dst import __version__

ROOT = Path(__file__).resolve().parents[1]

CONTROL = """\
Package: dst
Version: {version}
Architecture: {architecture}
Section: admin
Priority: optional
Maintainer: the DST authors <maintainers@dst.invalid>
Installed-Size: {kilobytes}
Depends: python3 (>= {python}), python3 (<< {next_python}), systemd
Suggests: libnbd-bin, qemu-utils, logrotate
Description: one dependable disk out of several undependable ones
 A storage is formed on top of local and remote nodes by an algorithm (mirror,
 stripe, linear), is served over NBD, and can be a node of another storage.
 Nodes that fail and come back are brought up to date by what they missed, with
 no command given.
 .
 This package has the daemon dstd, the command dst and all that they need. It
 starts nothing by itself: describe the storages in /etc/dst/dst.toml, then
 systemctl enable --now dst.
"""

POSTINST = """\
#!/bin/sh
set -e
if [ "$1" = configure ]; then
    systemd-sysusers /usr/lib/sysusers.d/dst.conf
    systemd-tmpfiles --create /usr/lib/tmpfiles.d/dst.conf
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload
        # A new version takes over at once; storages of other machines are served on meanwhile.
        systemctl try-restart 'dst.service' 'dst@*.service'
    fi
fi
"""

PRERM = """\
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    systemctl stop dst.service 'dst@*.service'
fi
find /usr/lib/dst -name dropin.cache -delete
"""

POSTRM = """\
#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
fi
# What is in /var/lib/dst is data, and votes for data elsewhere: nobody but a person deletes it, not even purge.
"""

CONFFILES = "/etc/dst/dst.toml\n/etc/logrotate.d/dst\n"


def said(*command: str) -> str:
    """What a program prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def build(python: str, target: Path, dependencies: bool = True) -> Path:
    """Build the package below C{target}; @return: its file."""
    tree = target / "debian"
    shutil.rmtree(tree, ignore_errors=True)
    installation = Installation(tree, Path("/usr"), python)
    installation.everything(target / "man", dependencies)
    for name in ("LICENSE", "README.rst"):
        shown = "copyright" if name == "LICENSE" else name
        installation.put(ROOT / name, f"/usr/share/doc/dst/{shown}")

    version = said(python, "-c", "import sys; print(*sys.version_info[:2])").split()
    files = [path for path in tree.rglob("*") if path.is_file()]
    control = CONTROL.format(
        version=__version__,
        architecture=said("dpkg", "--print-architecture"),
        kilobytes=sum(path.stat().st_size for path in files) // 1024,
        python=".".join(version),
        next_python=f"{version[0]}.{int(version[1]) + 1}",
    )
    for name, text in {
        "control": control,
        "conffiles": CONFFILES,
        "postinst": POSTINST,
        "prerm": PRERM,
        "postrm": POSTRM,
    }.items():
        installation.write(f"/DEBIAN/{name}", text.encode(), 0o755 if text.startswith("#!") else 0o644)
    for path in tree.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
    said("dpkg-deb", "--root-owner-group", "-Zgzip", "--build", str(tree), str(target))
    (package,) = target.glob(f"dst_{__version__}_*.deb")
    return package


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="Build a package for Debian.")
    parser.add_argument("--python", default="/usr/bin/python3")
    parser.add_argument("--target", type=Path, default=ROOT / "build")
    parser.add_argument("--no-dependencies", action="store_true")
    options = parser.parse_args()
    options.target.mkdir(parents=True, exist_ok=True)
    if shutil.which("dpkg-deb") is None:
        print("this machine has no dpkg-deb: a package for Debian is built on Debian", file=sys.stderr)
        sys.exit(1)
    print(build(options.python, options.target, not options.no_dependencies))


if __name__ == "__main__":
    main()
