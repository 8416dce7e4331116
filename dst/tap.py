"""
The daemon: C{twistd -n dst --config FILE}.

The only place, with the C{dst} command, that has the global reactor, and the one that puts the operator's door onto
the cluster.  What goes wrong before the reactor runs, and what ends the start later, is one line on standard
error and an exit status above 0, so that a supervisor and a person both know.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn, cast

from twisted.logger import ILogObserver, Logger, jsonFileLogObserver
from twisted.python import usage

from dst import __version__
from dst.admin.authentication import Doorkeeper
from dst.admin.site import make_site
from dst.cluster.assembly import AdminSite, Cluster
from dst.cluster.config import BadTopology, LoadedTopology, load_file, load_script
from dst.cluster.keeping import ConfigurationFile, IKeptConfiguration, KeptNowhere, in_threads_of
from dst.cluster.ordered_service import OrderedService
from dst.cluster.providers import Providers
from dst.cluster.topology import Topology
from dst.errors import ConfigurationError, DSTError
from dst.logfile import observer_of
from dst.native import PARTS, compiled
from dst.notify import Supervisor, spoken_status, supervisor_of
from dst.security.certificates import addresses_of
from dst.transport.eager_poll import poll_eagerly
from dst.transport.stream import keep_freed_memory

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from dst.interfaces import IClusterAdmin
    from dst.status import StatusTree

__all__ = ["Options", "file_log", "json_log", "main", "makeService"]

_log = Logger()

EXIT_FAILED = 1
EXIT_USAGE = 2


class Options(usage.Options):
    """What stands behind C{twistd dst}."""

    synopsis = "[--config FILE | --topology FILE.py] [--check] [--log-format text|json] [--log-file FILE]"

    longdesc = (
        "Run the nodes, storages and exports that a topology describes, until told to stop with "
        "SIGTERM or SIGINT: exports drain, storages flush, nodes close.\n\n"
        "Examples:\n\n"
        "  twistd --nodaemon --pidfile= dst --config mirror.toml\n\n"
        "  twistd -n dst --topology mirror.py --log-format json\n\n"
        "  twistd dst --config mirror.toml --check"
    )

    optParameters = [
        ["config", "c", None, "The topology, as a TOML file."],
        ["topology", "t", None, "The topology, as a Python script that defines `topology`."],
        ["log-format", None, "text", "How the log is written: text or json (one object a line)."],
        ["log-file", None, None, "Append the log to this file instead of standard output; SIGUSR1 opens it again."],
    ]

    optFlags = [["check", None, "Say what is wrong with the topology, if anything, and exit; nothing is started."]]

    compData = usage.Completions(
        optActions={
            "config": usage.CompleteFiles("*.toml"),
            "topology": usage.CompleteFiles("*.py"),
            "log-format": usage.CompleteList(["text", "json"]),
            "log-file": usage.CompleteFiles("*.log"),
        },
        mutuallyExclusive=[("config", "topology")],
    )

    providers: Providers
    loaded: Topology
    file: LoadedTopology | None = None

    def opt_version(self) -> NoReturn:
        """Say which DST this is, and exit."""
        print(f"DST {__version__}")
        sys.exit(0)

    def postOptions(self) -> None:
        """
        Read the topology, so that whatever is wrong with it is said before anything starts.

        twistd answers a C{UsageError} with its whole help and the exit status 0; neither helps anybody here.
        """
        path = self["config"] or self["topology"]
        if bool(self["config"]) == bool(self["topology"]):
            _give_up("expected --config FILE or --topology FILE.py, one of them; see `twistd dst --help`", EXIT_USAGE)
        self._choose_log()
        self.providers = Providers.found()
        try:
            if self["config"]:
                self.file = load_file(path, self.providers)
                self.loaded = self.file.topology
            else:
                self.loaded = load_script(path, self.providers)
        except BadTopology as error:
            _give_up(error.message, EXIT_FAILED)
        if self["check"]:
            print(f"{path}: fine")
            sys.exit(0)

    def _choose_log(self) -> None:
        log_format, path = self["log-format"], self["log-file"]
        if log_format not in ("text", "json"):
            _give_up(f"--log-format {log_format}: expected text or json", EXIT_USAGE)
        if log_format == "text" and path is None:
            return
        parent: dict[str, Any] = getattr(self, "parent", None) or {}
        if "logger" not in parent:
            _give_up("this runner writes its log itself: twist --log-format=json --log-file=... dst ...", EXIT_USAGE)
        if path is not None:
            if parent.get("logfile") not in (None, "-"):
                _give_up("--log-file: give it, or twistd its --logfile, not both", EXIT_USAGE)
            try:
                _chosen_log[:] = [observer_of(path, log_format)]
            except OSError as error:
                _give_up(f"--log-file {path}: {error.strerror}; name a file that may be written", EXIT_FAILED)
            parent["logger"] = "dst.tap.file_log"
            return
        if not parent.get("nodaemon") or parent.get("logfile") not in (None, "-"):
            _give_up("--log-format json goes to standard output: give twistd --nodaemon and no --logfile", EXIT_USAGE)
        parent["logger"] = "dst.tap.json_log"


_chosen_log: list[ILogObserver] = []
"""twistd takes the name of a function without arguments: what that returns."""


def file_log() -> ILogObserver:
    """The log in the file that the command line names."""
    return _chosen_log[0]


def json_log() -> ILogObserver:
    """The log as JSON, one object a line, on standard output."""
    return jsonFileLogObserver(sys.stdout, recordSeparator="")


def _say_what_is_compiled() -> None:
    """One line, as it says what a block costs."""
    parts = compiled()
    missing = [part for part in PARTS if part not in parts]
    _log.info(
        "compiled: {parts}; in Python: {missing}",
        parts=", ".join(parts) or "nothing",
        missing=", ".join(missing) or "nothing",
    )


def makeService(options: Options) -> OrderedService:
    """
    The daemon as a service; Twisted calls this.

    Its failures end the process, with a line that says why.
    """
    from twisted.internet import reactor as global_reactor

    reactor = cast(Any, global_reactor)
    keep_freed_memory()
    poll_eagerly(reactor)
    _say_what_is_compiled()

    def failed(failure: Failure) -> None:
        if isinstance(failure.value, DSTError):
            sentence = failure.value.message
            _log.critical("the start failed: {sentence}", sentence=sentence)
        else:
            sentence = f"unexpected {type(failure.value).__name__}: {failure.getErrorMessage()}; the log has more"
            _log.failure("the start failed", failure)
        _say(sentence)
        if supervisor is not None:
            supervisor.say(status=f"could not start: {sentence}")
        atexit.register(_leave_as_failed)
        reactor.callWhenRunning(reactor.stop)

    def admin_site(admin: IClusterAdmin) -> AdminSite:
        daemon = options.loaded.daemon
        gate = Doorkeeper.of_daemon(
            None if daemon.state_dir is None else options.loaded.path(daemon.state_dir),
            daemon.operators,
            reactor.seconds,
            time.time,
        )
        names = [] if cluster.security is None else addresses_of(cluster.security.credentials.certificate)
        site = make_site(admin, clock=reactor, gate=gate, hosts=names)
        return site, site.close

    try:
        cluster = Cluster(
            reactor,
            options.loaded,
            options.providers,
            admin_site=admin_site,
            failed=failed,
            kept=_kept(options, reactor),
            document=None if options.file is None else options.file.document,
        )
    except ConfigurationError as error:
        _give_up(error.message, EXIT_FAILED)

    def described() -> str:
        trees: list[StatusTree] = []
        cluster.admin.status().addCallback(trees.extend)
        return spoken_status(trees)

    supervisor = supervisor_of(reactor, os.environ, described)
    if supervisor is not None:
        cluster.service.observe(supervisor.told)
    reactor.callWhenRunning(_read_again_at_hangup, cluster, reactor, supervisor)
    return cluster.service


def _kept(options: Options, reactor: Any) -> IKeptConfiguration:
    """Where the configuration is kept that the daemon was started with."""
    if options.file is not None:
        return ConfigurationFile(options.file, in_threads_of(reactor))
    path = options["topology"]
    return KeptNowhere(
        f"{path} is a Python script, which only a person can change: change it there, and restart the daemon", path
    )


def _read_again_at_hangup(cluster: Cluster, reactor: Any, supervisor: Supervisor | None) -> None:
    """SIGHUP: somebody has changed the file.  The supervisor waits until it was read; steps that take time follow."""

    def read_again() -> None:
        if supervisor is not None:
            supervisor.reloading()
            reactor.callLater(0, supervisor.ready)
        try:
            operation = cluster.changing.reread()
        except DSTError as error:
            _log.error("the configuration stays as it was: {why}", why=error.message)
            return
        if operation is None:
            _log.info("the configuration was read again, and says nothing new")
        else:
            _log.info("the configuration was read again: operation {id}", id=operation.id)

    signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(read_again))


def _leave_as_failed() -> None:
    """
    Neither twistd nor twist lets a service choose the exit status.  This runs when they
    have cleaned up behind themselves.
    """
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        if stream is not None:
            stream.flush()
    os._exit(EXIT_FAILED)


def _say(sentence: str) -> None:
    """To the person who started this, also where the log has taken standard error."""
    if sys.__stderr__ is not None:
        print(f"dst: {sentence}", file=sys.__stderr__, flush=True)


def _give_up(sentence: str, status: int) -> NoReturn:
    _say(sentence)
    raise SystemExit(status)


def main() -> None:
    """The entry point of C{dstd}: C{twistd --nodaemon --pidfile= dst}, for supervisors."""
    from twisted.scripts.twistd import run

    sys.argv[1:1] = ["--nodaemon", "--pidfile=", "dst"]
    run()
