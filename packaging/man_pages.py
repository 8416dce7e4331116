"""
The manual pages, made of what the programs say of themselves: C{python packaging/man_pages.py DIRECTORY}.

C{dst.1} and C{dst-COMMAND.1} come from the commands' own help, C{dstd.8} from the daemon's options, C{dst.toml.5}
from C{docs/configuration.rst}; so a page cannot say something else than C{--help} does.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from dst import __version__
from dst.admin.cli import cli
from dst.tap import Options

__all__ = ["dstd_page", "pages", "roff", "write_all"]

ROOT = Path(__file__).resolve().parents[1]

EXIT_CODES = """\
.TP
.B 0
It was told to end, and did in order.
.TP
.B 1
It could not start; one line on standard error says why.
.TP
.B 2
The command line is wrong.
"""

SIGNALS = """\
.TP
.B SIGTERM, SIGINT
End in order: exports drain, storages flush and close, nodes close.
.TP
.B SIGHUP
Read the topology again, and make the difference.
.TP
.B SIGUSR1
Open the file of \\-\\-log\\-file again, after somebody has renamed it.
"""

NOTIFICATION = """\
Where NOTIFY_SOCKET is set, a supervisor is told by the protocol of
.BR sd_notify (3)
when everything is started, how the storages are, that the daemon ends, that it reads its topology again, and, as
often as WATCHDOG_USEC asks for, that it does not stand still.
"""

FILES = """\
.TP
.I /etc/dst/dst.toml
The topology of this machine's daemon.
.TP
.I /etc/dst/NAME.toml
That of dst@NAME.service.
.TP
.I /var/lib/dst
What must survive a restart. Whoever deletes it takes votes and promises from this machine's storages.
.TP
.I /run/dst
Sockets.
"""


def roff(text: str) -> str:
    """C{text} so that nothing in it is taken for a request or an escape."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    escaped = escaped.replace("^", "\\(ha").replace("~", "\\(ti").replace("\u2026", "...")
    return re.sub(r"(?m)^\.", r"\\&.", escaped)


def head(title: str, section: int, manual: str) -> str:
    """The beginning of a page."""
    return f'.TH "{roff(title)}" "{section}" "" "DST {__version__}" "{roff(manual)}"\n.nh\n.ad l\n'


def paragraphs(text: str) -> Iterator[str]:
    r"""The paragraphs of a help text of click: those after C{\b} keep their lines."""
    for part in re.split(r"\n\s*\n", text.strip()):
        lines = [line.rstrip() for line in part.split("\n")]
        if lines[0].strip() == "\b":
            first = lines[1].strip() if len(lines) > 1 else ""
            body = lines[1:]
            if first.endswith(":"):
                yield f'.SS "{roff(first[:-1])}"\n'
                body = lines[2:]
            yield ".nf\n.RS 2\n" + "".join(roff(line.strip()) + "\n" for line in body) + ".RE\n.fi\n"
        else:
            yield ".PP\n" + roff(" ".join(line.strip() for line in lines)) + "\n"


def option_entries(context: click.Context, command: click.Command) -> Iterator[str]:
    """Each option with its help."""
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and record[1]:
            yield f".TP\n.B {roff(record[0])}\n{roff(record[1])}\n"


def usage_of(context: click.Context, command: click.Command) -> str:
    """The words after the name of a command."""
    return " ".join(command.collect_usage_pieces(context))


def pages(
    command: click.Command, path: Sequence[str], parent: click.Context | None = None
) -> Iterator[tuple[str, str]]:
    """The pages of C{command} and of all below it: the name of the file, and what is in it."""
    context = click.Context(command, info_name=path[-1], parent=parent)
    name = "-".join(path)
    parts = [
        head(name.upper(), 1, "DST commands"),
        f".SH NAME\n{roff(name)} \\- {roff(summary(command))}\n",
        f".SH SYNOPSIS\n.B {roff(' '.join(path))}\n{roff(usage_of(context, command))}\n",
        ".SH DESCRIPTION\n",
        *paragraphs(command.help or ""),
        ".SH OPTIONS\n",
        *option_entries(context, command),
    ]
    below = sorted(command.commands.items()) if isinstance(command, click.Group) else []
    if below:
        parts.append(".SH COMMANDS\n")
        parts += [
            f".TP\n.BR {roff(f'{name}-{each}')} (1)\n{roff(summary(sub))}.\n" for each, sub in below if not sub.hidden
        ]
    epilog = getattr(command, "epilog", None)
    if epilog:
        parts += [".SH NOTES\n", *paragraphs(epilog)]
    others = [] if parent is None else [".BR dst (1)"]
    parts.append(".SH SEE ALSO\n" + ",\n".join([*others, ".BR dstd (8)", ".BR dst.toml (5)"]) + "\n")
    yield f"{name}.1", "".join(parts)
    for each, sub in below:
        if not sub.hidden:
            yield from pages(sub, [*path, each], context)


def summary(command: click.Command) -> str:
    """What it does, in the first sentence of its help."""
    text = " ".join((command.help or "").split("\b")[0].split("\n\n")[0].split())
    return re.split(r"(?<=[a-z)])[.:] ", text + " ")[0].strip().rstrip(".")


def dstd_page() -> str:
    """The page of the daemon."""
    options = Options()
    entries = []
    for line in options.docs:
        short = next((letter for letter, name in options.synonyms.items() if name == line and len(letter) == 1), None)
        takes = f" {line.upper()}" if line in options.defaults and options.defaults[line] != 0 else ""
        takes = takes if line in ("config", "topology", "log-format", "log-file") else ""
        names = ", ".join([*([f"-{short}{takes}"] if short else []), f"--{line}{takes}"])
        entries.append(f".TP\n.B {roff(names)}\n{roff(' '.join(str(options.docs[line]).split()))}\n")
    return "".join(
        [
            head("DSTD", 8, "DST daemon"),
            ".SH NAME\ndstd \\- one dependable disk out of several undependable ones\n",
            f".SH SYNOPSIS\n.B dstd\n{roff(Options.synopsis)}\n",
            ".SH DESCRIPTION\n",
            f".PP\n{roff(Options.longdesc.split(chr(10))[0])}\n",
            ".PP\ndstd stays in the foreground and logs to standard output, as supervisors want it. It is\n",
            ".B twistd \\-\\-nodaemon \\-\\-pidfile= dst\n",
            "with these options behind it; twistd has more.\n",
            ".SH OPTIONS\n",
            *entries,
            f".SH SIGNALS\n{SIGNALS}",
            f".SH NOTIFICATION\n{NOTIFICATION}",
            f".SH FILES\n{FILES}",
            f".SH EXIT STATUS\n{EXIT_CODES}",
            ".SH SEE ALSO\n.BR dst (1),\n.BR dst.toml (5),\n.BR systemd.service (5)\n",
        ]
    )


def configuration_page(directory: Path) -> None:
    """C{dst.toml.5}, by way of the documentation."""
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, "-m", "sphinx", "-q", "-b", "man", "-d", cache, str(ROOT / "docs"), str(directory)]
        subprocess.run(command, check=True)
    page = directory / "dst.toml.5"
    page.write_text(re.sub(r" \\%<>(\\&)?", "", page.read_text()))  # links within the documentation


def write_all(directory: Path, *, configuration: bool = True) -> list[Path]:
    """Every page; @return: where they are."""
    directory.mkdir(parents=True, exist_ok=True)
    if configuration:
        configuration_page(directory)
    for name, text in pages(cli, ["dst"]):
        (directory / name).write_text(text)
    (directory / "dstd.8").write_text(dstd_page())
    return sorted(path for path in directory.iterdir() if path.is_file())


if __name__ == "__main__":
    for written in write_all(Path(sys.argv[1])):
        print(written)
