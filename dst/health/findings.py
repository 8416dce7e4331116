"""
What raises a health code: from status trees, and from a few facts about the daemon.

One device at a time, so that whoever watches a thousand of them can do so in small steps.  Findings depend on what
machines say of themselves in plain words (C{state}, C{detail}), never on sentences; those are for people.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from dst.administration import HealthFinding, ListenerStatus
from dst.explaining_trees import summary_of
from dst.health.codes import code_named
from dst.identity import plain_address
from dst.status import Health, LinkState, MemberState, StatusTree
from dst.words import duration_in_words, size_in_words

__all__ = [
    "BUSY_S",
    "CERTIFICATE_S",
    "CLOCK_JUMP_S",
    "FLAPS",
    "STATE_BYTES_MIN",
    "CertificateFacts",
    "DaemonFacts",
    "daemon_findings",
    "device_findings",
]

FLAPS = 3
"""So often within ten minutes a member leaves before that is a finding of its own."""

CERTIFICATE_S = 30 * 86400.0
"""A person who is told so long before has a chance to be back from a holiday."""

CERTIFICATE_SHARE = 0.25
"""Of a certificate that lives for days, less: when so much of its life is left."""

BUSY_S = 1.0
"""A third of a usual lease; a good machine is late by some milliseconds."""

CLOCK_JUMP_S = 5.0
"""Time services correct less than this without a jump."""

STATE_BYTES_MIN = 16 * 1024 * 1024
"""Records are small, but each is written anew before the old one goes."""

OPEN_FILES_SHARE = 0.9

_WAITS = {
    "no-quorum": "QUORUM_LOST",
    "lost-quorum": "QUORUM_LOST",
    "latest-data-away": "LATEST_DATA_AWAY",
    "choice-away": "LATEST_DATA_AWAY",
    "too-few-copies": "COPIES_TOO_FEW",
    "first-start-waits": "STORAGE_NOT_INITIALISED",
    "first-start-holds-data": "STORAGE_NOT_INITIALISED",
    "mixed-storages": "MEDIA_MIXED_UP",
    "another-algorithm": "MEDIA_MIXED_UP",
    "damaged-first-start": "MEDIA_MIXED_UP",
    "same-media-twice": "MEDIA_MIXED_UP",
    "owner-record-lost": "OWNER_RECORD_LOST",
    "diverged": "STORAGE_DIVERGED",
}
"""What a storage waits for, by the name of the table row that decided."""

_NOT_READY = frozenset({LinkState.CONNECTING.value, LinkState.AWAY.value, LinkState.CLOSED.value})
_MEMBER_STATES = frozenset(state.value for state in MemberState)
_NODE_KINDS = frozenset({"file", "memory", "slice", "remote", "nbd"})
_ALGORITHMS_WITH_COPIES = frozenset({"mirror"})


@frozen
class CertificateFacts:
    """
    @ivar name: for people: what it certifies, or its file.
    @ivar begins: seconds of the epoch.
    @ivar ends: seconds of the epoch.
    """

    name: str
    begins: float
    ends: float


@frozen
class DaemonFacts:
    """
    What is known of a daemon besides its devices; what is not known has its default, and raises nothing.

    @ivar now: seconds of the epoch.
    @ivar certificates_unused: one sentence why changed certificates are not used; or C{""}.
    @ivar hooks_failing: one sentence for each hook that could not be told of an event.
    @ivar not_saved: one sentence why the configuration that runs is not the one that is kept; or C{""}.
    @ivar after_restart: as in L{dst.administration.Configuration}.
    @ivar state_dir: where it is; C{""} without one.
    @ivar state_bytes_free: of its file system.
    @ivar late_s: by how much a timer was late, at worst, lately.
    @ivar clock_jump_s: by how much the calendar jumped at the last look, forward or back.
    """

    now: float = 0.0
    listeners: tuple[ListenerStatus, ...] = ()
    certificates: tuple[CertificateFacts, ...] = ()
    certificates_unused: str = ""
    hooks_failing: tuple[str, ...] = ()
    not_saved: str = ""
    after_restart: tuple[str, ...] = ()
    state_dir: str = ""
    state_bytes_free: int | None = None
    open_files: int = 0
    open_files_max: int = 0
    late_s: float = 0.0
    clock_jump_s: float = 0.0


def device_findings(tree: StatusTree) -> list[HealthFinding]:
    """
    What is not as it should be with one storage and its members, or one node that is in none.

    What is below a member is not looked at: a storage of this daemon has a tree of its own, and what another daemon
    runs it tells itself.
    """
    if _is_storage(tree):
        return [*_storage_findings(tree), *(found for child in tree.children for found in _of_member(tree, child))]
    if tree.state in _NOT_READY:
        return [_found("NODE_AWAY", tree.name, summary_of(tree), tree.since)]
    return []


def _is_storage(tree: StatusTree) -> bool:
    return tree.kind not in _NODE_KINDS and (
        "role" in tree.detail or any(child.state in _MEMBER_STATES for child in tree.children)
    )


def _found(code: str, subject: str, sentence: str, since: float) -> HealthFinding:
    return HealthFinding(code, code_named(code).severity, subject, sentence, since)


# -- storages


def _storage_findings(tree: StatusTree) -> Iterator[HealthFinding]:
    detail = tree.detail
    summary = summary_of(tree)
    waits = detail.get("waits")
    diverged = [child.name for child in tree.children if child.detail.get("row") == "diverged"]
    if tree.health is Health.FAILED:
        yield _found("STORAGE_FAILED", tree.name, summary, tree.since)
    elif tree.health is Health.FROZEN:
        code = _WAITS.get(waits, "STORAGE_FROZEN") if isinstance(waits, str) else "STORAGE_FROZEN"
        yield _found(code, tree.name, summary, tree.since)
    elif tree.health is Health.DEGRADED:
        yield _found("STORAGE_DEGRADED", tree.name, summary, tree.since)
        copies = tree.kind in _ALGORITHMS_WITH_COPIES and len(tree.children) > 1
        if copies and tree.redundancy == 0:
            in_sync = [child.name for child in tree.children if child.state == MemberState.IN_SYNC.value]
            sentence = f"{tree.name} has one copy left, on {', '.join(in_sync) or 'no member that can be reached'}"
            yield _found("LAST_COPY", tree.name, sentence, tree.since)
    if diverged and tree.health is not Health.FROZEN:
        sentence = f"{tree.name} has another history on {', '.join(diverged)}; it goes on with its own"
        yield _found("STORAGE_DIVERGED", tree.name, sentence, tree.since)
    undecided, lost = _count(detail.get("undecided_bytes")), _count(detail.get("lost_bytes"))
    if undecided:
        sentence = f"the copies of {tree.name} differ in {undecided} bytes, and none is more credible"
        yield _found("COPIES_DIFFER", tree.name, sentence, tree.since)
    if lost:
        yield _found("DATA_UNREADABLE", tree.name, f"no copy of {tree.name} can read {lost} bytes", tree.since)
    if detail.get("record_unstable") is True:
        yield _found("RECORD_NOT_KEPT", tree.name, summary, tree.since)
    if detail.get("role") == "owner":
        yield from _vote_findings(tree)
    yield from _witness_findings(tree)


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _vote_findings(tree: StatusTree) -> Iterator[HealthFinding]:
    votes, quorum = tree.detail.get("votes"), tree.detail.get("quorum")
    if not isinstance(votes, list) or not isinstance(quorum, int):
        return
    missing = [str(vote.get("name")) for vote in votes if isinstance(vote, dict) and not vote.get("granted")]
    granted = len(votes) - len(missing)
    if missing and granted == quorum:
        sentence = (
            f"{tree.name} has {granted} of {len(votes)} votes, and needs all of these; missing: {', '.join(missing)}"
        )
        yield _found("QUORUM_AT_RISK", tree.name, sentence, tree.since)
    if tree.detail.get("own_vote") is True and "witnesses" not in tree.detail:
        sentence = (
            f"{tree.name} needs the vote of this daemon's state directory: nobody can take it over when this machine "
            "is lost"
        )
        yield _found("NOT_PROTECTED_BY_WITNESS", tree.name, sentence, tree.since)


def _witness_findings(tree: StatusTree) -> Iterator[HealthFinding]:
    witnesses = tree.detail.get("witnesses")
    for witness in witnesses if isinstance(witnesses, list) else []:
        if not isinstance(witness, dict):
            continue
        name, link, reason = (str(witness.get(key, "")) for key in ("name", "link", "reason"))
        if link != LinkState.READY.value or reason:
            sentence = f"witness {name} of {tree.name} is {link}" + (f": {reason}" if reason else "")
            yield _found("WITNESS_AWAY", f"{tree.name}/{name}", sentence, tree.since)


# -- members


def _of_member(storage: StatusTree, member: StatusTree) -> Iterator[HealthFinding]:
    subject = f"{storage.name}/{member.name}"
    detail = member.detail
    sentence = f"{member.name} of {storage.name} is {member.state}" + (f": {member.reason}" if member.reason else "")
    state = member.state
    if state == MemberState.SUSPENDED.value:
        yield _found("MEMBER_SUSPENDED", subject, sentence, member.since)
    elif state == MemberState.REFUSED.value and detail.get("row") == "coarser-media":
        yield _found("MEDIA_COARSER", subject, sentence, member.since)
    elif state == MemberState.REFUSED.value:
        yield _found("MEMBER_REFUSED", subject, sentence, member.since)
    elif state == MemberState.ABSENT.value and _is_missed(storage, member):
        yield _found("MEMBER_SLOW" if detail.get("slow") is True else "MEMBER_AWAY", subject, sentence, member.since)
    elif state == MemberState.RESYNCING.value and member.resync is not None:
        if detail.get("resync_paused") is True:
            left = size_in_words(member.resync.bytes_left)
            paused = f"the resync of {member.name} of {storage.name} is paused by hand; {left} are left"
            yield _found("RESYNC_PAUSED", subject, paused, member.since)
        elif member.resync.stalled:
            stalled = f"the resync of {member.name} of {storage.name} does not move: {member.resync.stalled}"
            yield _found("RESYNC_STALLED", subject, stalled, member.since)
    left_lately = detail.get("left_lately")
    if isinstance(left_lately, int) and left_lately >= FLAPS:
        times = f"{member.name} of {storage.name} left {left_lately} times in ten minutes"
        held_s = detail.get("held_back_s")
        if isinstance(held_s, int | float) and held_s > 0:
            times += f" and is held back for {duration_in_words(max(1.0, held_s))}"
        yield _found("MEMBER_FLAPPING", subject, times, member.since)


def _is_missed(storage: StatusTree, member: StatusTree) -> bool:
    """
    Whether a member that is not in use is missing: one that could be reached is not, where the storage is not served
    from here.
    """
    role = storage.detail.get("role")
    if role is None or role == "owner":
        return True
    return member.detail.get("link") in _NOT_READY


# -- the daemon


def daemon_findings(facts: DaemonFacts) -> list[HealthFinding]:
    """What is not as it should be with the daemon itself."""
    return [
        *(found for each in facts.listeners for found in _of_listener(each, facts.now)),
        *(found for each in facts.certificates for found in _of_certificate(each, facts.now)),
        *_of_process(facts),
    ]


def _of_listener(listener: ListenerStatus, now: float) -> Iterator[HealthFinding]:
    if listener.tls != "required" and not _is_local(listener.address):
        what = "whoever can reach it needs no certificate" if listener.tls == "optional" else "without TLS"
        sentence = f"{listener.protocol} listens at {listener.address}, {what}"
        yield _found("OPEN_TO_THE_NETWORK", f"{listener.protocol} {listener.address}", sentence, now)


def _is_local(address: str) -> bool:
    """Whether only this machine reaches C{address}, as C{127.0.0.1:10809}, C{[::1]:10809} or a path."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or "/" in address:
        return True
    try:
        return plain_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _of_certificate(certificate: CertificateFacts, now: float) -> Iterator[HealthFinding]:
    left_s = certificate.ends - now
    if left_s <= 0:
        sentence = f"the certificate {certificate.name} expired {duration_in_words(max(1.0, -left_s))} ago"
        yield _found("CERTIFICATE_EXPIRED", certificate.name, sentence, certificate.ends)
    elif left_s < min(CERTIFICATE_S, CERTIFICATE_SHARE * (certificate.ends - certificate.begins)):
        sentence = f"the certificate {certificate.name} expires in {duration_in_words(left_s)}"
        yield _found("CERTIFICATE_EXPIRES", certificate.name, sentence, now)


def _of_process(facts: DaemonFacts) -> Iterator[HealthFinding]:
    now = facts.now
    if facts.certificates_unused:
        yield _found("CERTIFICATES_NOT_USED", "", facts.certificates_unused, now)
    if facts.not_saved:
        yield _found("CONFIGURATION_NOT_SAVED", "", facts.not_saved, now)
    if facts.after_restart:
        yield _found("RESTART_NEEDED", "", f"after a restart only: {'; '.join(facts.after_restart)}", now)
    if facts.hooks_failing:
        yield _found("HOOK_FAILS", "", "; ".join(facts.hooks_failing), now)
    free = facts.state_bytes_free
    if free is not None and free < STATE_BYTES_MIN:
        sentence = f"the file system of the state directory {facts.state_dir} has {size_in_words(free)} left"
        yield _found("STATE_DIR_FULL", "", sentence, now)
    if facts.open_files_max and facts.open_files > OPEN_FILES_SHARE * facts.open_files_max:
        sentence = (
            f"{facts.open_files} of the {facts.open_files_max} descriptors that the process may have are in use"
        )
        yield _found("OPEN_FILES_SHORT", "", sentence, now)
    if facts.late_s >= BUSY_S:
        sentence = f"the daemon got to its timers {facts.late_s:.1f} s late"
        yield _found("DAEMON_BUSY", "", sentence, now)
    if abs(facts.clock_jump_s) >= CLOCK_JUMP_S:
        way = "forward" if facts.clock_jump_s > 0 else "back"
        sentence = f"the clock of the machine jumped {way} by {duration_in_words(abs(facts.clock_jump_s))}"
        yield _found("CLOCK_JUMPED", "", sentence, now)
