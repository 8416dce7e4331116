"""
The contracts of DST.

One interface, L{IBlockDevice}, carries everything and is provided at every
level: a file, a slice of a file, a remote export, a foreign NBD server, a
mirror of those, a stripe of mirrors.  Everything else I{makes} block devices
(nodes, algorithms), I{serves} them (exports), I{heals} them (recovery),
I{describes} them (topology) or I{talks about} them (admin).

Every provider passes the conformance suite of its interface in
L{dst.testing}; so do the fakes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IProtocolFactory
from zope.interface import Attribute, Interface

from dst.administration import (
    Configuration,
    DaemonMeasures,
    Event,
    ExportStatus,
    HealthFinding,
    ListenerStatus,
    OperationStatus,
    Plan,
    SessionStatus,
    Traffic,
)
from dst.errors import DSTError
from dst.explaining import Explanation, ResyncRecord, ScrubRecord
from dst.geometry import Geometry, StatusExtent
from dst.identity import Identity
from dst.ownership import Claim, Promise
from dst.status import LinkState, StatusTree

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = [
    "CHECKSUM_BYTES",
    "Buffer",
    "IAlgorithm",
    "IAlgorithmProvider",
    "IBlockDevice",
    "IChecksums",
    "IClusterAdmin",
    "IExportProvider",
    "IExporter",
    "IExports",
    "IExclusive",
    "IFenced",
    "IHistories",
    "IMeasuresItself",
    "INode",
    "INodeProvider",
    "INodeObserver",
    "IWitnessed",
    "IReadsNow",
    "IWritesAndTells",
    "IWritesTogether",
    "IScrubs",
    "MemberOptions",
    "OpenExport",
    "StopObserving",
    "TellOfWrite",
    "Write",
]

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Bytes on their way; whoever is handed one may slice it and must not change it."""

StopObserving: TypeAlias = Callable[[], None]
INodeObserver: TypeAlias = Callable[["INode"], None]


class IBlockDevice(Interface):
    """
    A row of bytes that can be read and written in any order, by many callers at once.

    The words and their meaning are those of the NBD protocol.  What every
    provider promises, and a caller may rely on:

      - Each operation returns a L{Deferred} that fires exactly once, in the
        end: no operation hangs for ever, but it may wait as long as the
        device's own limits (resend time, freeze time) let it.
      - Errors are L{dst.errors.DSTError}s and fail the Deferred; no method
        raises.  A bad extent fails with C{OutOfBounds} or C{InvalidRequest}, a
        change of a read-only device with C{ReadOnly}, before anything is done.
      - A completed write is visible to every later read, by anybody.
      - A completed write is durable after a C{flush} that was asked for
        later has completed, or if it was asked for with C{fua}.
      - After a failed or cancelled write the content of its extent is unknown
        until it is written again: old, new, or mixed in units of sectors.
      - A read is never short, and never older than an acknowledged write.
      - Overlapping writes get one order, the same on every copy the device
        keeps.  Which of two writes in flight together comes first may not be
        relied on.
      - Several operations may be in flight; they may complete in any order.
        C{flush} covers only what had completed when it was asked for.

    The caller leaves C{data} unchanged until the Deferred has fired.  What
    C{read} returns belongs to the caller, but may be a view of a larger buffer.

    Deferreds may fire synchronously.  Cancelling one means "I no longer care":
    the operation may still be executed.
    """

    geometry: Geometry = Attribute(
        """
        The L{Geometry}.  It can change only while the device is away, or when an
        online operation announces it to the observers.  Before a node was
        ready for the first time its size is 0.
        """
    )

    incarnation: bytes = Attribute(
        """
        16 bytes, compared by value.  They change when the device may have lost what
        had been acknowledged but not flushed (power loss, a failed flush),
        not when only its process restarted.  C{b""} while not known.
        """
    )

    def read(offset: int, length: int) -> Deferred[Buffer]:
        """
        @param offset: bytes from the start of the device.
        @param length: bytes, 1 to C{geometry.transfer_bytes_max}.
        @return: exactly C{length} bytes.
        """

    def write(offset: int, data: Buffer, *, fua: bool = False) -> Deferred[None]:
        """
        @param data: 1 to C{geometry.transfer_bytes_max} bytes.
        @param fua: "force unit access": complete only when the data is durable.
        """

    def flush() -> Deferred[None]:
        """
        Complete when every write, trim and write-zeroes that had completed when this
        was asked for is durable.  A failure means that they may be lost for good;
        asking again does not bring them back, and the incarnation changes.  One that was asked for
        before the caller could know may succeed all the same, for what is there now: so when this
        completes C{incarnation} is that of now, and has to be compared.
        """

    def trim(offset: int, length: int) -> Deferred[None]:
        """
        The extent is no longer needed.  Unlike NBD's, B{a completed trim reads back
        zeroes}, on every copy; a provider whose media cannot promise that
        writes them.  Space is given back where the media can.
        """

    def write_zeroes(
        offset: int, length: int, *, fua: bool = False, no_hole: bool = False, fast_only: bool = False
    ) -> Deferred[None]:
        """
        The extent reads as zeroes.

        @param no_hole: keep (or allocate) the space, so that a later write cannot run out of it.
        @param fast_only: fail with C{NotSupported} at once, with nothing done, rather than write zeroes
            the slow way.
        """

    def block_status(offset: int, length: int) -> Deferred[list[StatusExtent]]:
        """
        What is known of an extent without reading it.

        @return: at least one L{StatusExtent}, in order from C{offset}; together they may be shorter
            than C{length} (ask again from there), never longer.
        """

    def status() -> StatusTree:
        """How this device is, and everything below it.  Cheap; never waits."""


class IReadsNow(Interface):
    """
    A block device that often has at hand what is asked for, and then tells it without a L{Deferred}.  Optional.
    """

    def read_now(offset: int, length: int) -> Buffer | None:
        """
        As C{read}, at once.  Raises nothing.

        @param offset: of an extent that C{geometry.check_transfer} accepts; whoever asks has made sure of that.
        @return: C{None} if it is not at hand, or not now, for whatever reason: ask C{read}.
        """


class IWritesTogether(Interface):
    """
    A block device that does many writes at once for less than one by one.  Optional.
    """

    def write_together(writes: Sequence[tuple[int, Buffer]]) -> Deferred[Sequence[DSTError | None] | None]:
        """
        As C{write} without C{fua}, for each C{(offset, data)} in order.  Never fails as a whole.

        @param writes: each accepted by C{geometry.check_transfer}, of a device that can be changed; whoever asks has
            made sure of that.  They must not change until this has fired.
        @return: fires when all have ended: C{None} if all are done, otherwise for each its error, or C{None}.
        """


class Write(Protocol):
    """
    One write, as whoever asks for it keeps it.  Its attributes are read, never set.

    @ivar data_crc: the CRC-32C of C{data}, if it is known already: several members get the same data.
    """

    offset: int
    data: Buffer
    data_crc: int | None


TellOfWrite: TypeAlias = Callable[[Any, DSTError | None], None]
"""Called with a write that has ended, and C{None} if it is done, or why it is not."""


class IWritesAndTells(Interface):
    """
    A block device that does writes without a L{Deferred} for each.  Optional.
    """

    def write_and_tell(writes: Sequence[Write], told: TellOfWrite) -> None:
        """
        As C{write} without C{fua}, for each of C{writes}, in order.

        @param writes: each accepted by C{geometry.check_transfer}, of a device that can be changed; whoever asks has
            made sure of that.  They and their data must not change until they have ended.
        @param told: called once for each of them, with that object, when it has ended, or before this returns.
            It raises nothing.
        """


CHECKSUM_BYTES = 16
"""What L{IChecksums} says of one block: BLAKE2b with a digest of so many bytes, no key, no salt."""


class IChecksums(Interface):
    """
    A block device that can say what it holds without sending it.  Optional.

    Two blocks with equal checksums are equal: nobody makes two that are not, even on purpose.  So a copy between two
    machines need only carry what differs.
    """

    def checksums(offset: int, length: int, block_bytes: int) -> Deferred[bytes]:
        """
        What the extent holds, as a C{read} of it would find it.

        @param length: bytes, 1 to C{geometry.transfer_bytes_max}.
        @param block_bytes: a power of two, 512 to 1 MiB; the last block may be shorter.
        @return: L{CHECKSUM_BYTES} for each block, in order.
        @raise InvalidRequest: a bad extent, or block size, or more than 65536 blocks.
        @raise NotSupported: it cannot, at least not now: read it.
        """


class INode(IBlockDevice):
    """
    A block device with a name and a link that can break and heal by itself.

    Storages are nodes too, so that they form trees.

    A node keeps trying to become ready, with exponential backoff and jitter,
    from C{open} until C{close}.  Each time it becomes ready it has asked for its
    configuration again: C{geometry} and C{incarnation} are those of now.

    When the link breaks the node is C{INTERRUPTED} and keeps its transactions; if it comes
    back in time with the same incarnation they are resent in order and nobody
    above has noticed.  Otherwise they fail with C{Unavailable} or
    C{IncarnationChanged} and the node is C{AWAY} until it is ready again.
    Operations asked of a node that is neither ready nor interrupted fail with C{Unavailable} at once.
    """

    name: str = Attribute("The name in the topology; unique within a daemon.")

    link: LinkState = Attribute("Whether it can be used now.")

    reason: str = Attribute("One sentence: why the link is as it is; C{''} while ready.")

    def open() -> Deferred[None]:
        """
        Begin.  Fires when the node is ready, or after the first attempt that failed
        in a way that a later one can mend (then C{link} and C{reason} tell).

        @raise AlreadyInUse: another process has the media.
        @raise ConfigurationError: no retry can make this work.
        """

    def close() -> Deferred[None]:
        """
        Complete or fail what is in flight, give everything back.  When this fires
        no timer, connection, thread, lock or unflushed byte is left.
        """

    def observe(observer: INodeObserver) -> StopObserving:
        """
        Call C{observer(node)} after every change of C{link}, C{incarnation} or C{geometry},
        B{in a later turn} of the reactor.  Several changes may be told in one call; the
        observer reads the node's attributes.

        @return: a callable that ends it; the observer is not called afterwards.
        """


class IExclusive(Interface):
    """
    A marker: a device that nobody outside of this process can change.  Only such a device can be fenced here.
    """


class IFenced(Interface):
    """
    A node that refuses what an older owner asks for, durably.  Optional; only nodes that fence vote.

    Whoever wants to own a storage claims its nodes.  A node grants a claim that is above every one granted before,
    if nobody else can still be counting on the older one: it is the same owner's, or it was released, or
    its lease is over.  A grant is durable before it is answered, and by then nothing that was asked for under an
    older claim, or none, is being executed or ever will be: old requests are drained or refused with C{Fenced}, when
    they would be executed, not when they arrive.

    Everything that is asked of this node object goes under the claim that was granted to it last.  A node that
    has promised nothing takes requests under no claim.  Once the object has given its claim back, or was answered a
    promise to somebody else, it reads under no claim, which is always allowed, and changes nothing before it is
    granted another one: changes fail with C{Fenced}.
    """

    fence: bytes = Attribute(
        """
        16 bytes, the identity of the node's memory of promises; C{b""} while it is not known, and when the node
        cannot fence (then every method fails with C{NotSupported}).
        """
    )

    def ask() -> Deferred[Promise]:
        """What it has promised, to whom, and for how long.  Changes nothing."""

    def claim(claim: Claim, lease_s: float, name: str) -> Deferred[Promise]:
        """
        Grant C{claim} if that may be; at once, or not at all.

        @param lease_s: for how long after each claim or renewal nobody else is granted one.
        @param name: of the owner, for people.
        @return: what the node has promised now: C{claim} itself, or why not.
        """

    def renew() -> Deferred[Promise]:
        """Count the lease from now on, if the last claim granted through this object still stands."""

    def release() -> Deferred[Promise]:
        """
        Give the claim back: whoever claims next need not wait.  What is asked for under it later is refused; what is
        asked of this node object goes under no claim from then on.
        """

    def want(name: str) -> Deferred[Promise]:
        """Ask whoever has it to hand the storage over to the daemon C{name}; forgotten after 15 s."""


@frozen
class MemberOptions:
    """
    What the topology says of one member.

    @ivar cost: reads prefer members of low cost; 0 is local.
    """

    cost: int = 0


class IAlgorithm(INode):
    """
    Several nodes behind one algorithm: a storage.

    It combines geometries, maps requests, deals with errors, reports members.
    It opens and closes its members: C{open} opens all of them and fires when
    the storage is ready or cannot become ready without somebody's help or a node's return.
    """

    nodes: Sequence[INode] = Attribute("The members' nodes, in the order in which they were given.")

    def initialise(keep: str | None = None, *, discard: bool = False) -> Deferred[None]:
        """
        Make a new storage of members that are present and belong to none.

        Done without being asked when every member reads as zeroes throughout.

        @param keep: the name of the node whose data is adopted and copied to the others.
        @param discard: what the members hold may be lost.
        @raise InvalidRequest: the storage exists already, a member is missing or
            belongs to another storage, or neither was said where a member holds something.
        """

    def suspend(name: str) -> Deferred[None]:
        """Stop using the member until C{resume}, as if it were absent; kept over a restart."""

    def resume(name: str) -> Deferred[None]:
        """Use the member again; what it missed is resynced."""

    def replace(name: str, node: INode) -> Deferred[None]:
        """
        Put C{node}, whose content is lost, at the place of member C{name}, and resync it fully.
        The old member leaves first; where redundancy must not drop, C{add_node} and then C{remove_node}.
        """

    def add_node(node: INode, options: MemberOptions = ...) -> Deferred[None]:
        """Widen a mirror by C{node}, whose content is lost; other algorithms fail with C{NotSupported}."""

    def remove_node(name: str) -> Deferred[None]:
        """Narrow a mirror.  If the node returns it is foreign.  Others: C{NotSupported}."""

    def grow() -> Deferred[None]:
        """
        Be as large as the members have room for now, because the media of all of them has grown; while it is served.

        @return: fires when C{geometry} says so, and the new part reads as zeroes.
        @raise InvalidRequest: somebody's media has no room for more; nothing was done.
        @raise Unavailable: it was not done, at least not to its end; it can be asked again.
        @raise NotSupported: the algorithm cannot.
        """

    def mark_clean(name: str) -> Deferred[None]:
        """
        "I know that this member has the data": take it as in sync without copying.
        Only while it is not in sync.  A verdict never does this, a person may.
        """

    def mark_dirty(name: str) -> Deferred[None]:
        """ "I do not trust this copy": leave and resync it fully.  Never the last in-sync member."""

    def take_over() -> Deferred[None]:
        """
        Own the storage here: ask the daemon that owns it to hand it over, and wait for that, or for the end of its
        lease.

        @return: fires when it is served here.
        @raise NotSupported: the algorithm has one configured owner only.
        """

    def resolve(keep: str) -> Deferred[None]:
        """
        A person's choice between diverged histories: C{keep} names a member that has the one to go on with; what only
        the others have is lost.

        @raise InvalidRequest: nothing has diverged.
        """

    def pause_resync(name: str | None = None) -> Deferred[None]:
        """Copy nothing more to that member, or to any, until L{resume_resync}; what it has got stays."""

    def resume_resync(name: str | None = None) -> Deferred[None]:
        """Go on."""

    def explain() -> Explanation:
        """Why it is as it is, down to the leaves.  Cheap; never waits."""

    def resyncs() -> Sequence[ResyncRecord]:
        """The last resyncs that have ended, the oldest first; a bounded number."""


class IScrubs(Interface):
    """
    A storage with several copies that can compare all of them, to find what no disk reports.  Optional.
    """

    def scrub(*, repair: bool = True) -> Deferred[None]:
        """
        Compare all copies, from where the last one was stopped if it was.  It gives way to clients and resyncs.

        What is evident is mended where C{repair} is: what one copy cannot read, or has otherwise than most.  Where no
        copy is more credible than another nothing is changed.

        @return: fires when it has begun; C{scrubs} tells how it goes.
        @raise InvalidRequest: one goes on already.
        """

    def stop_scrub() -> Deferred[None]:
        """Stop the one that goes on. @raise InvalidRequest: none does."""

    def scrubs() -> Sequence[ScrubRecord]:
        """The one that goes on, and the last ones that have ended, the oldest first; a bounded number."""


class IHistories(Interface):
    """
    A storage of which there can be several histories, because a person made it go on from an older copy.  Optional.
    """

    def histories() -> Mapping[str, INode]:
        """
        While there are several, and until a person has chosen: what can be read of each, by the name of the member
        that has it; else nothing.  The nodes are read-only, and go away when the member is used again.
        """


class IWitnessed(Interface):
    """
    A storage with nodes that vote and have no data, which can come and go while it serves.  Optional.
    """

    def add_witness(node: INode) -> Deferred[None]:
        """
        C{node} is to vote from now on.  It is opened here, and admitted whenever it can be reached.

        @raise InvalidRequest: the storage has no votes of several, or a node of that name.
        """

    def remove_witness(name: str) -> Deferred[None]:
        """
        That witness votes no more; fires when nobody counts on it, and its node is closed.

        @raise NotFound: there is none of that name.
        @raise Unavailable: there is no quorum to agree on that.
        """


class INodeProvider(Interface):
    """
    A plugin that makes nodes of one URI scheme; found with C{twisted.plugin.getPlugins}.
    """

    scheme: str = Attribute("The URI scheme it serves, in lower case: C{'file'}, C{'dst'}, ...")

    def node_from_uri(reactor: IReactorTime, name: str, uri: str, options: dict[str, object]) -> INode:
        """
        A node that is not open yet; nothing is touched.

        @param uri: relative paths have been made absolute.
        @param options: what the topology says of it besides C{uri}, as plain values.
        @raise ConfigurationError: what is wrong with the URI or an option, and what was expected.
        """


class IAlgorithmProvider(Interface):
    """
    A plugin that makes storages of one algorithm; found with C{twisted.plugin.getPlugins}.
    """

    algorithm: str = Attribute("Its name in a topology: C{'mirror'}, C{'stripe'}, ...")

    # A provider whose storages claim their nodes has C{claims_nodes = True}. Its nodes stand behind fences then,
    # where the daemon can keep promises, and its C{storage} takes two keywords more:
    #   witnesses: nodes that vote and have no data;
    #   owner_name: what the daemon is called where it claims nodes.

    def storage(
        reactor: IReactorTime,
        name: str,
        nodes: Sequence[INode],
        options: dict[str, object],
        state_dir: str | None,
    ) -> IAlgorithm:
        """
        A storage that is not open yet.

        @param options: the keys of the storage's table that are not C{algorithm} or C{nodes}.
        @param state_dir: a directory of the daemon's own that survives restarts, or C{None}: then
            nothing is kept but what is on the members.
        @raise ConfigurationError: an option or the number of nodes is wrong, and what was expected.
        """


@frozen
class OpenExport:
    """
    What C{open_export} returns.

    @ivar node: the device; the one who opened it does not close it.
    @ivar read_only: this client may not change it.
    @ivar fence: the device's C{dst.recovery.fence.Fence}, if it makes promises to owners of storages; C{node} then is
        for users without a claim.
    @ivar device: with a fence: the device behind it, for a server that asks the fence itself.
    """

    node: INode
    read_only: bool
    fence: object | None = None
    device: INode | None = None


class IExports(Interface):
    """
    What a server can serve, and to whom.

    Servers make one L{Identity} for each connection (C{dst.transport.peers.identity_at}); with TLS, when its
    handshake is over.  C{None} is somebody of whom nothing is known.
    """

    def list_exports(identity: Identity | None) -> list[str]:
        """The names that this identity may open, sorted."""

    def open_export(name: str, identity: Identity | None) -> OpenExport:
        """
        @raise NotFound: there is none of that name, or none that this identity may know of: which of the two is not
            to be told from the error.
        @raise Denied: there is, but not for this identity; only of those who may know.
        """


class IExporter(IProtocolFactory):
    """
    Serves exports over one protocol: every export, on any number of ports, to any number of clients.

    It is given to each port as its factory.  Clients are strangers: one that sends nonsense, stops in the
    middle, never reads, or goes away with requests in flight harms nobody but itself, and one
    that says nothing is let go after a time.  Nothing is done before the first client connects, and nothing is
    left, no timer either, when the last one is gone.

    Devices are opened and closed by others, and may be away at any time: an export that is not
    ready is not served, and says so in the words of the protocol, until it is.
    """

    def drain() -> Deferred[None]:
        """
        Serve nobody any more: take no new client (C{buildProtocol} returns C{None} from now on) and begin no
        new request, answer what was begun, and close every connection.  May be asked again.

        @return: fires when no connection is left.  That is within 12 seconds, whatever devices and
            clients do: what is not answered by then is cut off.
        """

    def sessions() -> list[SessionStatus]:
        """The clients that have an export open, in the order in which they came.  Cheap; never waits."""

    def end_session(id: str) -> bool:
        """
        Cut a client off, as if its cable were pulled.  It may come again.

        @return: whether there was one.
        """

    def traffic() -> dict[str, Traffic]:
        """
        What was asked for since the exporter was made, by the name of the export.  The numbers only grow, also when
        clients go.  Cheap; never waits.
        """


class INegotiatesTLS(IExporter):
    """
    An exporter whose protocol begins in the clear and agrees on TLS by itself.  Optional: every other one is put
    behind TLS as it is, and cannot have a listener with C{tls = "optional"}.
    """

    def door(options: IOpenSSLServerConnectionCreator, *, required: bool) -> IProtocolFactory:
        """
        What a port is given where there is TLS.

        @param required: nothing but TLS is asked for or answered before there is TLS.  Else it may be agreed on.
        """


class IExportProvider(Interface):
    """
    A plugin that serves exports over one protocol; found with C{twisted.plugin.getPlugins}.
    """

    protocol: str = Attribute(
        "Its key in the topology's C{[listeners]}, in lower case: C{'dst'}, C{'nbd'}, ...  It may not be C{'admin'}, "
        "C{'base_dir'} or C{'state_dir'}, which are the topology's own words."
    )

    def exporter(reactor: IReactorTime, exports: IExports) -> IExporter:
        """
        What the ports of the protocol are given.  Called once for each start of a daemon that listens for it;
        nothing is touched.
        """


class IClusterAdmin(Interface):
    """
    Everything an operator can see and do.  Provided twice, in the daemon and by the HTTP client;
    both pass one suite.
    """

    def status() -> Deferred[list[StatusTree]]:
        """The tree of every storage, and of every node that is in none; sorted by name."""

    def initialise(storage: str, *, keep: str | None = None, discard: bool = False) -> Deferred[None]:
        """L{IAlgorithm.initialise} of a storage. @raise NotFound: no such storage."""

    def suspend(storage: str, node: str) -> Deferred[None]:
        """L{IAlgorithm.suspend}."""

    def resume(storage: str, node: str) -> Deferred[None]:
        """L{IAlgorithm.resume}."""

    def replace(storage: str, node: str, uri: str) -> Deferred[None]:
        """L{IAlgorithm.replace} with a node made from C{uri}."""

    def mark_clean(storage: str, node: str) -> Deferred[None]:
        """L{IAlgorithm.mark_clean}."""

    def mark_dirty(storage: str, node: str) -> Deferred[None]:
        """L{IAlgorithm.mark_dirty}."""

    def take_over(storage: str) -> Deferred[None]:
        """L{IAlgorithm.take_over}."""

    def resolve(storage: str, keep: str) -> Deferred[None]:
        """L{IAlgorithm.resolve}."""

    def grow(storage: str) -> Deferred[None]:
        """L{IAlgorithm.grow}."""

    def pause_resync(storage: str, node: str | None = None) -> Deferred[None]:
        """L{IAlgorithm.pause_resync}."""

    def resume_resync(storage: str, node: str | None = None) -> Deferred[None]:
        """L{IAlgorithm.resume_resync}."""

    def explain(name: str | None = None) -> Deferred[list[Explanation]]:
        """Why things are as they are: of one storage or node, or of everything L{status} has at the top."""

    def resyncs(storage: str) -> Deferred[list[ResyncRecord]]:
        """L{IAlgorithm.resyncs}."""

    def scrub(storage: str, *, repair: bool = True) -> Deferred[None]:
        """L{IScrubs.scrub}. @raise NotSupported: the storage has no copies to compare."""

    def stop_scrub(storage: str) -> Deferred[None]:
        """L{IScrubs.stop_scrub}."""

    def scrubs(storage: str) -> Deferred[list[ScrubRecord]]:
        """L{IScrubs.scrubs}; none where there are no copies to compare."""

    # -- what is wanted

    def configuration() -> Deferred[Configuration]:
        """What is wanted, and how far what runs differs from it."""

    def plan(document: dict[str, object]) -> Deferred[Plan]:
        """
        What would be done if C{document} were wanted.  Nothing is.

        @param document: a whole configuration, as L{Configuration.document}.
        @raise InvalidRequest: it cannot be run, or not be come to from here; one sentence a line, each with its
            place in the document.
        """

    def change(document: dict[str, object], etag: str | None = None) -> Deferred[OperationStatus]:
        """
        Want C{document} from now on: it is checked, planned and kept, and carrying it out begins.

        Steps are done in the order of the plan.  One that fails ends the operation; what was not done is not wanted
        any more then, and its sentence says what was done and what was not.

        @param etag: what the caller has seen, as L{Configuration.etag}; C{None}: whatever it is now.
        @return: fires when it has begun; L{operation} tells how it goes on.
        @raise InvalidRequest: as L{plan}, or the configuration cannot be changed here.
        @raise Conflict: the configuration is another one by now, or another change is going on.
        """

    # -- what there is

    def exports() -> Deferred[list[ExportStatus]]:
        """What is served, sorted by name."""

    def listeners() -> Deferred[list[ListenerStatus]]:
        """Where clients and operators connect, sorted by protocol and endpoint."""

    def sessions() -> Deferred[list[SessionStatus]]:
        """The clients that have an export open, the oldest first."""

    def end_session(id: str) -> Deferred[None]:
        """
        Cut a client off; it may come again.

        @raise NotFound: there is no such session now.
        """

    def operations() -> Deferred[list[OperationStatus]]:
        """What was asked for lately, the newest first; a bounded number."""

    def operation(id: str) -> Deferred[OperationStatus]:
        """One of L{operations}. @raise NotFound: there is none, or it was forgotten."""

    def events(after: int = 0) -> Deferred[list[Event]]:
        """
        What happened, in order.

        @param after: only those with a greater number.
        """

    def health() -> Deferred[list[HealthFinding]]:
        """What is not as it should be, now; the worst first."""


class IMeasuresItself(Interface):
    """
    An L{IClusterAdmin} in the process that it is about.  Optional.
    """

    def measures() -> DaemonMeasures:
        """How the process is.  Cheap; never waits."""
