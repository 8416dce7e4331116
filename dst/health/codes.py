"""
The table of health codes.

A code never changes its meaning, and none is used again for something else: people write alerts and runbooks with
them. The pages of the manual, the alert rules and the evaluation are checked against this table.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

from dst.administration import Severity

__all__ = ["CODES", "HealthCode", "code_named"]


@frozen
class HealthCode:
    """
    One thing that can be wrong.

    @ivar subject: what a finding is about: C{"storage"}, C{"storage/node"}, C{"node"}, C{"listener"},
        C{"certificate"} or C{"daemon"}.
    @ivar meaning: what it means for the users of a disk.
    @ivar cause: what usually leads to it.
    @ivar advice: what a person can do, a step each.
    @ivar raised_after_s: it is told when it has been so for this long: things that mend themselves are not news.
    @ivar cleared_after_s: it is over when it has not been so for this long: what comes and goes is told once.
    """

    code: str
    severity: Severity
    subject: str
    meaning: str
    cause: str
    advice: tuple[str, ...]
    raised_after_s: float = 0.0
    cleared_after_s: float = 10.0


_CRITICAL, _WARNING, _INFO = Severity.CRITICAL, Severity.WARNING, Severity.INFO

CODES: Final[tuple[HealthCode, ...]] = (
    HealthCode(
        "STORAGE_FAILED",
        _CRITICAL,
        "storage",
        "Operations on the disk end with an error. File systems on it turn read-only, databases stop.",
        "No member that has the latest data can be reached, and the storage was told to fail rather than to wait "
        '(``on_loss = "error"``) or has waited for ``freeze_s``; or the storage was closed.',
        (
            "``dst explain STORAGE`` names the members that are missing. Bring one back that has the latest data.",
            "The storage serves again by itself. Then look at the programs above: what they do after an error is "
            "their own affair.",
        ),
    ),
    HealthCode(
        "STORAGE_FROZEN",
        _CRITICAL,
        "storage",
        "Operations on the disk wait. None is lost and none has failed.",
        "The storage is starting, or waits for something that none of the more precise codes names; the sentence of "
        "the finding does.",
        (
            "``dst explain STORAGE`` says what it waits for, and what can be done.",
            "It goes on by itself when that has ended.",
        ),
        raised_after_s=5.0,
    ),
    HealthCode(
        "LATEST_DATA_AWAY",
        _CRITICAL,
        "storage",
        "Operations on the disk wait: every member that has the latest data is away. An older copy is never "
        "served by itself.",
        "The last copies were lost: the machines or disks that held them are off, cut off or broken.",
        (
            "Bring back one of the members that the finding names. Everything goes on by itself.",
            "If they are gone for good, and an older copy is better than none: ``dst mark-clean STORAGE NODE``. What "
            "was written since that copy is lost.",
        ),
        raised_after_s=5.0,
    ),
    HealthCode(
        "QUORUM_LOST",
        _CRITICAL,
        "storage",
        "Operations on the disk wait, reads too: this daemon cannot know whether another one owns the storage by "
        "now.",
        "Too few of the nodes that vote can be reached from here: a partition of the network, or several machines "
        "that are off.",
        (
            "``dst explain STORAGE`` names the votes that are missing. Bring back these nodes, or the network to "
            "them.",
            "If another daemon has taken over meanwhile, point the clients to that one: this one stands by.",
        ),
        raised_after_s=5.0,
    ),
    HealthCode(
        "COPIES_TOO_FEW",
        _CRITICAL,
        "storage",
        "Changes of the disk wait, reads go on: fewer members are in sync than every change must have "
        "(``minimum_copies``).",
        "Members are away or being copied to, and the topology says that it is better to wait than to have so few "
        "copies.",
        (
            "Bring a member back, or let the resync end: ``dst status`` says how long that takes.",
            "If waiting is worse: lower ``minimum_copies`` in the topology.",
        ),
        raised_after_s=5.0,
    ),
    HealthCode(
        "STORAGE_NOT_INITIALISED",
        _WARNING,
        "storage",
        "There is no storage yet, so nothing is served.",
        "A new storage is made when all its members are present and blank. One is missing, or holds something that "
        "would be lost.",
        (
            "Bring all members, once. Later, any may be away.",
            "Where a member holds something: ``dst init STORAGE --keep NODE`` adopts what is on that node, ``dst "
            "init STORAGE --discard`` adopts nothing. Each destroys what is on the others.",
        ),
        raised_after_s=15.0,
    ),
    HealthCode(
        "MEDIA_MIXED_UP",
        _CRITICAL,
        "storage",
        "The storage does not start. Nothing was touched.",
        "The media at the members' places is not what belongs there: disks were exchanged, two names lead to one "
        "disk, a disk was cloned, labels are damaged, or the topology names another algorithm.",
        (
            "``dst explain STORAGE`` says which media belongs where. Correct the topology, or the cabling.",
            "Blank media that may be overwritten (its last 64 KiB are enough).",
        ),
        raised_after_s=5.0,
    ),
    HealthCode(
        "OWNER_RECORD_LOST",
        _CRITICAL,
        "storage",
        "The storage does not start before all of its members have been seen.",
        "The state directory is new, or was lost, so it is not known who has the latest data.",
        (
            "Bring all the members that the finding names.",
            "If they are gone for good: ``dst mark-clean STORAGE NODE`` for the node that has the data.",
        ),
        raised_after_s=15.0,
    ),
    HealthCode(
        "STORAGE_DIVERGED",
        _CRITICAL,
        "storage",
        "The storage has two histories: each has writes that the other has not. Nothing is overwritten before a "
        "person has chosen.",
        "Somebody went on from an older copy while the latest one was away, and now that one is back.",
        (
            "``dst explain STORAGE`` says which members have which history, and what each choice discards.",
            "Both can be read: the other history is exported as ``STORAGE@NODE``. Copy out what is needed.",
            "``dst storage resolve STORAGE --keep NODE`` goes on with the history that NODE has.",
        ),
    ),
    HealthCode(
        "COPIES_DIFFER",
        _CRITICAL,
        "storage",
        "The disk works. In some places its copies are not the same and none of them is more credible: which one is "
        "read there is a matter of chance.",
        "A disk has returned or kept something else than what was written, and there is no majority against it: with "
        "two copies there never is.",
        (
            "``dst storage scrubs STORAGE`` lists the places. Restore from a backup what is there, or write it anew; "
            "both copies are the same then.",
            "If one disk is known to be bad: ``dst mark-dirty STORAGE NODE`` copies everything to it again.",
        ),
    ),
    HealthCode(
        "DATA_UNREADABLE",
        _CRITICAL,
        "storage",
        "The disk works, but for places that no copy can read: reading them fails.",
        "Several disks have bad sectors at the same place, or one has and there is no other copy.",
        (
            "``dst storage scrubs STORAGE`` says how much it is. Restore it from a backup: what is written anew can "
            "be read again.",
            "Replace the disks that cannot read: ``dst replace STORAGE NODE URI``.",
        ),
    ),
    HealthCode(
        "RECORD_NOT_KEPT",
        _CRITICAL,
        "storage",
        "The storage works, but it cannot write down who is in sync: after a crash it may have to wait for members "
        "that it could do without.",
        "The state directory cannot be written (a full or read-only file system), or no majority of the votes "
        "answers.",
        (
            "Look at the file system of the state directory: is there room, is it writable?",
            "It is tried again all the time, and nothing is acknowledged meanwhile that would depend on it.",
        ),
        raised_after_s=5.0,
    ),
    HealthCode(
        "STORAGE_DEGRADED",
        _WARNING,
        "storage",
        "Users notice nothing. There is less redundancy than the topology asks for.",
        "A member is away, was suspended or refused, or has not got everything yet; the codes of the members say "
        "which.",
        (
            "``dst status`` shows how many more members can be lost, and how long a resync takes.",
            "Bring the member back, in daylight if ``more can be lost`` is 1 or more. If it is 0, now.",
        ),
        raised_after_s=3.0,
    ),
    HealthCode(
        "LAST_COPY",
        _CRITICAL,
        "storage",
        "Users notice nothing yet. One copy of the latest data is left: if it is lost too, the disk is.",
        "All other members are away, or are still being copied to.",
        (
            "Let a resync that runs end: ``dst status`` says how long that takes. It may be hurried with "
            "``resync_ceiling``.",
            "Bring the other members back, now; or ``dst replace STORAGE NODE URI`` with other media.",
        ),
        raised_after_s=3.0,
    ),
    HealthCode(
        "QUORUM_AT_RISK",
        _WARNING,
        "storage",
        "Users notice nothing yet. If one more vote is lost everything waits.",
        "A member or a witness that votes cannot be reached, and there are just enough others.",
        ("``dst explain STORAGE`` names the votes that are missing. Bring back one of these nodes.",),
        raised_after_s=3.0,
    ),
    HealthCode(
        "NOT_PROTECTED_BY_WITNESS",
        _INFO,
        "storage",
        "The storage survives the loss of a member, but no other daemon can take it over when this machine is lost: "
        "its vote is in this daemon's own state directory.",
        "A mirror of an even number of members without a witness. The owner's state directory breaks the tie.",
        (
            "Add a witness on a third machine: a file of 64 KiB, exported by a daemon, is enough.",
            'If nobody is to take the storage over, nothing: ``votes = "owner"`` says so.',
        ),
    ),
    HealthCode(
        "WITNESS_AWAY",
        _WARNING,
        "storage/node",
        "Users notice nothing. A vote is missing: the storage can afford one loss less before everything waits.",
        "The machine of the witness cannot be reached, or its media is not what belongs there.",
        ("Look at the daemon of the witness; the sentence of the finding says what was seen of it.",),
        raised_after_s=5.0,
    ),
    HealthCode(
        "MEMBER_AWAY",
        _WARNING,
        "storage/node",
        "Users notice nothing as long as there are other copies. The member misses what is written.",
        "Its machine or its disk cannot be reached, or did not do what it was told.",
        (
            "The sentence of the finding says what was seen. Start its daemon, repair its cable.",
            "It comes back by itself, and what it missed is copied. It is tried for ever.",
            "If it is gone for good: ``dst replace STORAGE NODE URI``.",
        ),
        raised_after_s=2.0,
    ),
    HealthCode(
        "MEMBER_REFUSED",
        _WARNING,
        "storage/node",
        "Users notice nothing as long as there are other copies. The media at the member's place was not touched, "
        "and is not used.",
        "The media is not what belongs there: of another storage, replaced before, cut short, or with damaged "
        "labels.",
        (
            "``dst explain STORAGE`` says what it is and what can be done.",
            "Bring the right media; or blank it, if it may be overwritten; or ``dst replace STORAGE NODE URI``.",
        ),
    ),
    HealthCode(
        "MEDIA_COARSER",
        _WARNING,
        "storage/node",
        "Users notice nothing as long as there are other copies. The member is not used.",
        "The disk at the member's place has larger blocks than the storage, so it cannot take every write that the "
        "storage was promised to take.",
        (
            "``dst replace STORAGE NODE URI`` with a disk of smaller blocks (a 512e disk instead of a 4Kn one).",
            "Or make a new storage with a coarser disk among its members from the start, and copy.",
        ),
    ),
    HealthCode(
        "MEMBER_SUSPENDED",
        _INFO,
        "storage/node",
        "Users notice nothing as long as there are other copies. The member misses what is written.",
        "A person said so, with ``dst suspend``. It stays so over restarts.",
        ("``dst resume STORAGE NODE`` uses it again; what it missed is copied.",),
    ),
    HealthCode(
        "MEMBER_SLOW",
        _WARNING,
        "storage/node",
        "Users notice nothing any more: the member was left out because it held everything up.",
        "It did not answer for ``slow_s``, or took many times as long as the others: a disk that is dying, a "
        "controller that resets, a network that drops packets.",
        (
            "Look at the disk (``smartctl``, the system's log) and at the network of its machine.",
            "It is taken back by itself after a while. ``dst resume STORAGE NODE`` does so now.",
        ),
    ),
    HealthCode(
        "MEMBER_FLAPPING",
        _WARNING,
        "storage/node",
        "Users notice nothing. The member is held back, for longer each time, so that it does not pull the others "
        "down.",
        "It left three times or more in ten minutes: a loose cable, a power supply, a daemon that crashes.",
        (
            "Look at the log of its machine: why does it go?",
            "``dst resume STORAGE NODE`` takes it back now.",
        ),
        cleared_after_s=60.0,
    ),
    HealthCode(
        "RESYNC_STALLED",
        _WARNING,
        "storage/node",
        "Users notice nothing. Redundancy is lower for longer than it should be.",
        "The member that is copied to, or the one that is copied from, does not answer; or a part of the data cannot "
        "be read anywhere.",
        (
            "The sentence of the finding says what it waits for.",
            "Where bytes cannot be read on any copy: write them anew (restore that file), and the resync ends.",
        ),
        raised_after_s=30.0,
        cleared_after_s=30.0,
    ),
    HealthCode(
        "RESYNC_PAUSED",
        _INFO,
        "storage/node",
        "Users notice nothing. Redundancy is lower until somebody lets the resync go on.",
        "A person said so, with ``dst storage pause-resync``.",
        ("``dst storage resume-resync STORAGE NODE`` lets it go on.",),
    ),
    HealthCode(
        "NODE_AWAY",
        _WARNING,
        "node",
        "A node that is in no storage of this daemon cannot be used: whoever uses its export waits, or is refused.",
        "Its file or disk cannot be opened, or the daemon or server that it is an export of cannot be reached.",
        ("The sentence of the finding says what was seen. It is tried again for ever.",),
        raised_after_s=5.0,
    ),
    HealthCode(
        "CERTIFICATE_EXPIRES",
        _WARNING,
        "certificate",
        "Nothing yet. When it has expired, connections that use it are refused.",
        "Less than a quarter of the certificate's time is left, or less than 30 days, and nobody has renewed it.",
        ("``dst ca renew NAME`` renews it; connections that there are go on.",),
        cleared_after_s=0.0,
    ),
    HealthCode(
        "CERTIFICATE_EXPIRED",
        _CRITICAL,
        "certificate",
        "New connections that use it are refused: nodes that lose their link do not come back.",
        "The certificate was not renewed in time; or the clock of this machine is wrong.",
        (
            "Look at the clock first: ``date``.",
            "``dst ca renew NAME`` renews it.",
        ),
        cleared_after_s=0.0,
    ),
    HealthCode(
        "CERTIFICATES_NOT_USED",
        _WARNING,
        "daemon",
        "Connections go on with the certificates as they were before. What was renewed or revoked is not in effect.",
        "Files in the security directory were changed, and cannot be used as they are: a renewal that stopped half "
        "way, a key that does not belong to its certificate, wrong permissions.",
        ("The sentence of the finding says what is wrong with which file. Correct it: it is read by itself.",),
        raised_after_s=5.0,
        cleared_after_s=0.0,
    ),
    HealthCode(
        "OPEN_TO_THE_NETWORK",
        _WARNING,
        "listener",
        "Whoever can reach the address can read and change what is exported there, and everybody on the way can read "
        "it, too.",
        'A listener beyond this machine does not require TLS (``open_to_the_network = true``, or ``tls = "off"`` or '
        '``"optional"``).',
        (
            'Give the listener ``tls = "required"``; ``dst ca issue`` makes the certificates.',
            "If the network is one that nobody else is on, this may be what you want.",
        ),
        cleared_after_s=0.0,
    ),
    HealthCode(
        "CONFIGURATION_NOT_SAVED",
        _WARNING,
        "daemon",
        "Everything works. A restart would undo what was changed.",
        "The configuration was changed while the daemon runs, and could not be written to its file.",
        (
            "The sentence of the finding says why. Make the file writable for the user of the daemon, and make the "
            "change again; or edit the file.",
        ),
        cleared_after_s=0.0,
    ),
    HealthCode(
        "RESTART_NEEDED",
        _INFO,
        "daemon",
        "Everything works as before. A part of what was configured is not in effect yet.",
        "Some settings are read when the daemon starts: the sentence of the finding names them.",
        ("Restart the daemon when it suits. Its nodes are resynced in part, if at all.",),
        cleared_after_s=0.0,
    ),
    HealthCode(
        "STATE_DIR_FULL",
        _CRITICAL,
        "daemon",
        "Nothing yet, or RECORD_NOT_KEPT. Without room the daemon cannot write down who is in sync.",
        "The file system of the state directory has less than 16 MiB left: logs or other files have filled it.",
        ("Make room on that file system, or give the daemon a file system of its own for its state.",),
        raised_after_s=5.0,
        cleared_after_s=30.0,
    ),
    HealthCode(
        "OPEN_FILES_SHORT",
        _WARNING,
        "daemon",
        "Nothing yet. Without descriptors no new client and no node that returns can be connected.",
        "More than nine tenths of the descriptors that the process may have are in use: very many clients, or a "
        "limit that is too low.",
        (
            "Raise the limit (``LimitNOFILE=`` in the unit of systemd, ``ulimit -n``) and restart.",
            "``dst session list`` shows who is connected.",
        ),
        raised_after_s=5.0,
        cleared_after_s=60.0,
    ),
    HealthCode(
        "HOOK_FAILS",
        _WARNING,
        "daemon",
        "The disks are not concerned. Somebody who should be told of what happens is not.",
        "A program or a URL of ``[[hooks]]`` fails: it is not there, ends with an error, or does not answer.",
        (
            "The sentence of the finding says what failed, and how. Run the program by hand with an event on its "
            "standard input.",
            "What was not told is among the events: ``dst event list``. It is over with the next event that is "
            "delivered.",
        ),
        cleared_after_s=0.0,
    ),
    HealthCode(
        "DAEMON_BUSY",
        _WARNING,
        "daemon",
        "Everything is slower. If it gets worse, leases run out and storages wait.",
        "The daemon did not get to its timers for a second or more: the machine is overloaded or swaps, or was "
        "stopped.",
        (
            "Look at the load of the machine: ``top``, ``vmstat 1``. Another process may take all of it.",
            "Give the daemon a processor's time of its own (``CPUWeight=``), and memory that is not swapped out.",
        ),
        cleared_after_s=60.0,
    ),
    HealthCode(
        "CLOCK_JUMPED",
        _INFO,
        "daemon",
        "No data depends on the calendar. Times in events and logs are not comparable over the jump; certificates "
        "may seem expired, or not valid yet.",
        "The clock of the machine was set, by hand or by a time service that had been away.",
        ("Look that a time service runs: ``timedatectl``, ``chronyc tracking``.",),
        cleared_after_s=600.0,
    ),
)
"""In the order of how much they matter."""

_BY_NAME: Final = {each.code: each for each in CODES}


def code_named(name: str) -> HealthCode:
    """
    The row of the table.

    @raise KeyError: there is no such code.
    """
    return _BY_NAME[name]
