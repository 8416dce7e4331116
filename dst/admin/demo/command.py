"""
The command C{dst demo}.
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
from typing import TYPE_CHECKING, Any

import click
from twisted.internet.defer import CancelledError

from dst.admin.tools import EXIT_ERROR, Tools, fail, fail_with, json_option, show_json
from dst.errors import DSTError

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from dst.interfaces import IClusterAdmin

__all__ = ["demo"]


@click.command(short_help="A mirror is made, loaded, broken, and heals, before your eyes.")
@click.option(
    "--keep",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Have everything in this new directory, and leave it there.",
)
@click.option("--fast", is_flag=True, help="Smaller and without pauses: some ten seconds.")
@click.option("--seed", type=click.IntRange(0), help="Of what the client does.  [default: another each time]")
@json_option("what was checked, and how it was")
@click.pass_obj
def demo(tools: Tools, keep: str | None, fast: bool, seed: int | None, as_json: bool) -> None:
    """
    Tell the story of a mirror with real processes: load, kill, degrade, heal.

    Three node daemons and a mirror of them are started in a directory of their own, on free ports of this machine
    only. A client uses the disk over NBD and remembers every block. One node is killed with SIGKILL, the client works
    on, the node comes back and is given what it has missed. In the end every block is read and compared, and so are
    the files of the nodes. Nothing is left of it, unless you want to keep it; nothing of yours is touched.

    \b
    Examples:
      dst demo
      dst demo --fast
      dst demo --keep /tmp/my-first-mirror

    \b
    Exit codes: 0 everything was right, 1 something was not.
    """
    from dst.admin.demo.stage import OWNER, Stage
    from dst.admin.demo.story import FAST, SLOW, Story
    from dst.admin.demo.telling import Teller

    measures = FAST if fast else SLOW
    seed = secrets.randbelow(1 << 32) if seed is None else seed
    trouble: DSTError | None = None
    teller = Teller(quiet=as_json)
    try:
        stage = Stage.prepared(keep, measures.node_bytes)
    except DSTError as error:
        fail_with(error)
    try:

        async def work(admin: IClusterAdmin, clock: IReactorTime) -> None:
            _end_with_terminal(clock)
            await Story(admin, clock, tools.now, stage, teller, measures, seed).tell()

        with teller:
            (outcome,) = tools.run([(stage.admin_url, work)])
        trouble = outcome if isinstance(outcome, DSTError) else None
    except DSTError as error:
        trouble = error
    except CancelledError:
        stage.clear()
        fail("the demo was interrupted; its processes have been ended", "dst demo --fast", code="interrupted")
    finally:
        stage.clear()
    if trouble is not None:
        teller.check("told-to-the-end", False, trouble.message)
    good = trouble is None and bool(teller.checks) and all(check.good for check in teller.checks)
    if as_json:
        checks = [{"name": check.name, "good": check.good, "sentence": check.sentence} for check in teller.checks]
        show_json({"version": 1, "good": good, "seed": seed, "directory": keep, "checks": checks})
    else:
        _conclude(teller.checks, good, seed)
        if stage.kept:
            click.echo(f"\nAll of it is in {stage.directory}. To start it again, there:")
            for name in ("a", "b", "c", OWNER):
                click.echo(f"  twistd --pidfile={name}.pid --logfile={name}.log dst --config {name}.toml")
            click.echo(f"  dst --url {stage.admin_url} status        the disk: {stage.disk_uri}")
    if not good:
        sys.exit(EXIT_ERROR)


def _conclude(checks: list[Any], good: bool, seed: int) -> None:
    click.echo()
    wrong = [check for check in checks if not check.good]
    if good:
        click.echo(f"All {len(checks)} checks are right. Nothing was lost, and nobody had to do anything.")
    else:
        click.echo(f"{len(wrong)} of {len(checks)} checks are WRONG, with --seed {seed}:")
        for check in wrong:
            click.echo(f"  {check.name}: {check.sentence}")


def _end_with_terminal(reactor: Any) -> None:
    """A terminal that is closed ends the demo as Ctrl-C does; without this its directory would stay."""
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL and os.name == "posix":
        signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(reactor.stop))
