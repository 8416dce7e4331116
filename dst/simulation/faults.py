"""
What goes wrong: faults as values, catalogues of them, and who brings them about.

A catalogue says how often each kind comes and how long it lasts.  From it and a seed a I{schedule} is
made before anything runs: a list of L{Fault}s.  So a failure can be tried again with fewer of them.
"""

from __future__ import annotations

import math
import tomllib
from importlib.resources import files
from pathlib import Path
from random import Random

from attrs import evolve, field, frozen

from dst.cluster.rules import did_you_mean
from dst.errors import ConfigurationError
from dst.simulation.workload import Load

__all__ = ["KINDS", "Catalogue", "Fault", "Rule", "catalogue", "catalogue_names", "schedule"]

KINDS: dict[str, tuple[str, str]] = {
    "kill": ("daemon", "{target} is killed and comes back {after}"),
    "stop": ("daemon", "{target} is stopped in order and started again {after}"),
    "power-cut": ("daemon", "the machine of {target} loses its power, which is back {after}"),
    "blackout": ("everything", "all machines lose their power, which is back {after}"),
    "stall": ("daemon", "{target} stands still (as with SIGSTOP) and goes on {after}"),
    "sleep": ("daemon", "the machine of {target} is suspended and wakes up {after}"),
    "clock-jump": ("daemon", "the calendar of {target} jumps by hours"),
    "cut": ("pair", "the cable between {target} is cut and mended {after}"),
    "one-way-cut": ("way", "nothing gets from {target}; that is mended {after}"),
    "isolate": ("daemon", "{target} is cut off from all others and reached again {after}"),
    "split": ("everything", "the network falls into two halves, {detail}; mended {after}"),
    "slow-link": ("pair", "the link between {target} is slow; that ends {after}"),
    "reset": ("everything", "a connection breaks in the middle of a message"),
    "disk-error": ("drive", "the disk {target} fails some operations ({detail})"),
    "bad-sector": ("drive", "a part of the disk {target} cannot be read until it is written; repaired {after}"),
    "slow-disk": ("drive", "the disk {target} is slow; that ends {after}"),
    "disk-hang": ("drive", "the disk {target} hangs and goes on {after}"),
    "disk-full": ("drive", "the file system of {target} is full; there is room {after}"),
    "disk-gone": ("drive", "the disk {target} is unplugged, and back {after}"),
    "disk-replaced": ("drive", "the disk {target} dies; a new, empty one is there {after}"),
    "suspend-member": ("member", "somebody suspends {target} and resumes it {after}"),
    "mark-dirty": ("member", "somebody says that the copy {target} is not to be trusted"),
    "take-over": ("storage-daemon", "somebody orders {target} to take the storage over"),
}
"""Each kind: what it befalls, and the sentence for people."""


@frozen(order=True)
class Fault:
    """
    One thing that goes wrong.

    @ivar at_s: when, from the beginning.
    @ivar target: what it befalls, by name.
    @ivar lasts_s: for how long; 0 for what is over at once.
    @ivar detail: what else there is to say, by kind.
    """

    at_s: float
    kind: str
    target: str = ""
    lasts_s: float = 0.0
    detail: str = ""

    def sentence(self) -> str:
        """For people."""
        words = f"{self.lasts_s:.1f} s later" if self.lasts_s else ""
        return KINDS[self.kind][1].format(target=self.target, after=words, detail=self.detail).strip()


@frozen
class Rule:
    """How often one kind of fault comes, and how long it lasts: anything between the two, short ones more often."""

    kind: str
    per_hour: float
    lasts_s: tuple[float, float] = (0.0, 0.0)
    at_most: int = 1_000_000


@frozen
class Catalogue:
    """
    What goes wrong, in one kind of bad luck.

    @ivar title: one sentence.
    @ivar hours: for how long, unless said otherwise.
    @ivar clustered: the share of faults that come within seconds of another one, as they do in life.
    """

    name: str
    title: str
    hours: float
    rules: tuple[Rule, ...]
    load: Load = field(factory=Load)
    clustered: float = 0.0


@frozen
class Targets:
    """What there is that faults can befall; names in order."""

    daemons: tuple[str, ...] = ()
    drives: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    storages: tuple[str, ...] = ()


def catalogue_names() -> list[str]:
    """Those that come along."""
    found = files("dst.simulation").joinpath("catalogue").iterdir()
    return sorted(each.name.removesuffix(".toml") for each in found if each.name.endswith(".toml"))


def catalogue(name: str) -> Catalogue:
    """
    The catalogue of that name, or in the file of that path.

    @raise ConfigurationError: there is none, or it makes no sense.
    """
    if name in catalogue_names():
        text = files("dst.simulation").joinpath("catalogue", f"{name}.toml").read_text("utf-8")
    elif name.endswith(".toml") or "/" in name:
        try:
            text = Path(name).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"the faults in {name} cannot be read: {error}") from None
    else:
        raise ConfigurationError(f"there are no faults called {name!r}{did_you_mean(name, catalogue_names())}")
    try:
        return _read(name, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{name}: {error}") from None


def _read(name: str, document: dict[str, object]) -> Catalogue:
    _only(name, document, ("title", "hours", "clustered", "fault", "load"))
    faults = document.get("fault")
    if not isinstance(faults, list) or not all(isinstance(each, dict) for each in faults):
        raise ConfigurationError(f"{name}: expected [[fault]] tables with kind, per_hour and lasts_s")
    rules = tuple(_rule(name, each) for each in faults)
    load = document.get("load", {})
    if not isinstance(load, dict):
        raise ConfigurationError(f"{name}: load is no table")
    known = ("operations_per_s", "clients", "hot_share", "sequential_share")
    _only(f"{name}: [load]", load, known)
    numbers = {key: _number(f"{name}: {key}", load[key]) for key in known if key in load}
    made = Load(**{key: int(value) if key == "clients" else value for key, value in numbers.items()})  # type: ignore[arg-type]
    hours = _number(f"{name}: hours", document.get("hours", 1.0))
    clustered = _number(f"{name}: clustered", document.get("clustered", 0.0))
    return Catalogue(name, str(document.get("title", name)), hours, rules, made, clustered)


def _rule(name: str, table: dict[str, object]) -> Rule:
    kind = table.get("kind")
    if kind not in KINDS:
        raise ConfigurationError(f"{name}: there is no fault {kind!r}{did_you_mean(str(kind), KINDS)}")
    where = f"{name}: the fault {kind}"
    _only(where, table, ("kind", "per_hour", "lasts_s", "at_most"))
    lasts = table.get("lasts_s", 0)
    pair = lasts if isinstance(lasts, list) else [lasts, lasts]
    if len(pair) != 2:
        raise ConfigurationError(f"{where}: lasts_s is {lasts!r}; expected seconds, or two of them as [1, 60]")
    low, high = (_number(f"{where}: lasts_s", each) for each in pair)
    if low > high:
        raise ConfigurationError(f"{where}: lasts_s is {lasts!r}; expected the shorter time first")
    at_most = int(_number(f"{where}: at_most", table.get("at_most", 1_000_000)))
    return Rule(str(kind), _number(f"{where}: per_hour", table.get("per_hour")), (low, high), at_most)


def _only(where: str, table: dict[str, object], known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            raise ConfigurationError(f"{where} has the unknown key {key!r}{did_you_mean(key, known)}")


def _number(where: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or not math.isfinite(value):
        raise ConfigurationError(f"{where} is {value!r}; expected a number, 0 or more")
    return float(value)


# -- schedules


def schedule(of: Catalogue, targets: Targets, hours: float, random: Random) -> list[Fault]:
    """The faults of so many hours, in order."""
    found: list[Fault] = []
    span_s = hours * 3600
    for rule in of.rules:
        expected = rule.per_hour * hours
        for _ in range(min(rule.at_most, _poisson(expected, random))):
            fault = _one(rule, targets, random.random() * span_s, random)
            if fault is not None:
                found.append(fault)
    found.sort()
    for index in range(1, len(found)):
        if random.random() < of.clustered:
            near = found[random.randrange(index)]
            found[index] = evolve(found[index], at_s=round(near.at_s + random.expovariate(0.7), 3))
    return sorted(found)


def _poisson(expected: float, random: Random) -> int:
    """How often something happens that happens so often on average."""
    if expected > 50:
        return max(0, round(random.gauss(expected, math.sqrt(expected))))
    count, product, limit = 0, random.random(), math.exp(-expected)
    while product > limit:
        count += 1
        product *= random.random()
    return count


def _one(rule: Rule, targets: Targets, at_s: float, random: Random) -> Fault | None:
    low, high = rule.lasts_s
    lasts_s = low if high <= low else math.exp(random.uniform(math.log(max(low, 0.01)), math.log(high)))
    fault = Fault(round(at_s, 3), rule.kind, "", round(lasts_s, 3))
    befalls = KINDS[rule.kind][0]
    daemons = targets.daemons
    if befalls in ("pair", "way"):
        if len(daemons) < 2:
            return None
        one, other = random.sample(daemons, 2)
        return evolve(fault, target=f"{one} to {other}" if befalls == "way" else f"{one} and {other}")
    if befalls == "storage-daemon":
        return evolve(fault, target=random.choice(targets.storages)) if targets.storages else None
    if befalls == "everything":
        half = sorted(random.sample(daemons, max(1, len(daemons) // 2)))
        return evolve(fault, detail=" and ".join(half) if rule.kind == "split" else "")
    chosen = {"daemon": daemons, "drive": targets.drives, "member": targets.members}[befalls]
    if not chosen:
        return None
    fault = evolve(fault, target=random.choice(chosen))
    if rule.kind == "disk-error":
        kind = random.choice(("read", "write", "write", "flush"))
        return evolve(fault, detail=f"{kind} {random.choice((1, 1, 2, 5))}")
    if rule.kind in ("bad-sector", "clock-jump"):
        return evolve(fault, detail=f"{random.random():.6f}")
    return fault
