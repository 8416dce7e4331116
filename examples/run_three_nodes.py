"""
What C{make run} runs: a mirror over three nodes, each a process of its own, so that one can be killed.

Everything is below one directory: the nodes' files, topologies, logs and process numbers. Nothing but
the standard library is used here; the daemons are the C{twistd} beside this Python.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
NAMES = ("a", "b", "c", "mirror")

START_S_MAX = 60.0
STOP_S_MAX = 90.0

TRY = """
A disk of 1 GiB lives on three nodes now, each a process with a file of its own in {run}/.

  the disk    nbd://127.0.0.1:10809/vol     (qemu-img, nbdcopy, nbdfuse, fio, nbd-client ...)
  the page    http://127.0.0.1:7480/
  its state   {bin}/dst status              (or live: {bin}/dst watch)

Write something, kill a node, write on, bring it back, and watch it heal by itself:

  {bin}/python examples/fill.py dst://127.0.0.1:7450/vol --megabytes 64
  kill -9 $(cat {run}/b.pid)
  {bin}/python examples/fill.py dst://127.0.0.1:7450/vol --megabytes 16 --seed 2
  {bin}/twistd --pidfile={run}/b.pid --logfile={run}/b.log dst --config {run}/b.toml
  {bin}/dst watch

Logs are in {run}/*.log.  Ctrl-C stops everything; the data stays.
"""


class Stopped(BaseException):
    """Somebody wants it to end."""


def start(run: Path, name: str) -> subprocess.Popen[bytes]:
    """One daemon, in a session of its own: a Ctrl-C is for this script, which stops them in order."""
    log = run / f"{name}.log"
    log.unlink(missing_ok=True)
    command = [str(BIN / "twistd"), "--nodaemon", f"--pidfile={run / name}.pid", f"--logfile={log}"]
    return subprocess.Popen(
        [*command, "dst", "--config", str(run / f"{name}.toml")], start_new_session=True, stdout=subprocess.DEVNULL
    )


def wait_until_started(run: Path, name: str, process: subprocess.Popen[bytes]) -> None:
    """Return when the daemon serves; end this script if it cannot."""
    log = run / f"{name}.log"
    for _ in range(int(START_S_MAX * 10)):
        if process.poll() is not None:
            sys.exit(f"make run: {name} could not start, for the reason above (the whole log: {log})")
        if log.exists() and "everything is started" in log.read_text(errors="replace"):
            return
        time.sleep(0.1)
    sys.exit(f"make run: {name} has not started after {START_S_MAX:.0f} s; see {log}")


def watch(run: Path, started: dict[str, subprocess.Popen[bytes]]) -> None:
    """
    Say which node has died, until the mirror itself has.

    Looking at a dead process also buries it: as long as it is there, nobody else may have its pid file.
    """
    alive = set(started)
    while True:
        for name in sorted(alive):
            status = started[name].poll()
            if status is not None:
                alive.discard(name)
                how = f"was killed by signal {-status}" if status < 0 else f"has ended with status {status}"
                if name == "mirror":
                    sys.exit(f"make run: the mirror's daemon {how}; see {run}/mirror.log")
                print(f"node {name} {how}", flush=True)
        time.sleep(0.2)


def running_pid(run: Path, name: str) -> int | None:
    """The process that serves C{name} now: a person may have started another one than we did."""
    try:
        pid = int((run / f"{name}.pid").read_text())
        os.kill(pid, 0)
        if b"twistd" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            return None
    except (OSError, ValueError):
        return None
    return pid


def stop(run: Path, name: str, process: subprocess.Popen[bytes] | None) -> None:
    """End one daemon in order and wait for it."""
    pid = running_pid(run, name)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
    elif process is not None and process.poll() is None:
        pid = process.pid  # it is so young that it has not written its pid file
        process.terminate()
    for _ in range(int(STOP_S_MAX * 10)):
        if (process is None or process.poll() is not None) and running_pid(run, name) is None:
            # One that was told to end before it could listen to signals leaves its pid file behind.
            (run / f"{name}.pid").unlink(missing_ok=True)
            return
        time.sleep(0.1)
    print(f"make run: {name} (process {pid}) does not end; see {run / name}.log", file=sys.stderr)


def main() -> None:
    """Prepare the directory, start everything, wait."""
    run = Path(sys.argv[1] if len(sys.argv) > 1 else "run")
    run.mkdir(exist_ok=True)
    for name in NAMES:
        if running_pid(run, name) is not None:
            sys.exit(f"make run: it runs already ({run / name}.pid); stop that one first")
        if not (run / f"{name}.toml").exists():
            shutil.copy(HERE / "three-nodes" / f"{name}.toml", run)

    def stopped(number: int, frame: FrameType | None) -> NoReturn:
        raise Stopped

    signal.signal(signal.SIGTERM, stopped)
    signal.signal(signal.SIGINT, stopped)
    started: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name in NAMES[:-1]:
            started[name] = start(run, name)
        for name in NAMES[:-1]:
            wait_until_started(run, name, started[name])
        started["mirror"] = start(run, "mirror")
        wait_until_started(run, "mirror", started["mirror"])
        print(TRY.format(run=os.path.relpath(run), bin=os.path.relpath(BIN)), flush=True)
        watch(run, started)
    except Stopped:
        print("\nstopping: the mirror first, then the nodes", flush=True)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for name in reversed(NAMES):
            if name in started:
                stop(run, name, started[name])


if __name__ == "__main__":
    main()
