"""
Steps about what is served: listeners, exports, and what the process itself is.
"""

from __future__ import annotations

from collections.abc import Iterator

from dst.administration import PlanStep
from dst.cluster.difference import Difference
from dst.cluster.moves import GONE, Edit, Move
from dst.cluster.plan_words import changed_export, removed_export

__all__ = ["ServingMoves"]

_SPOKEN_TABLES = ("nodes", "storages", "exports", "listeners")


class ServingMoves:
    """
    From what is served to what shall be.
    """

    def __init__(self, between: Difference) -> None:
        self._between = between

    # -- listeners

    def listeners(self, *, opening: bool) -> Iterator[Move]:
        """Those that open, or those that close."""
        for protocol in dict.fromkeys((*self._between.old.listeners, *self._between.new.listeners)):
            old, new = self._between.old.listeners.get(protocol, ()), self._between.new.listeners.get(protocol, ())
            now = [each for each in old if each in new] if opening else list(old)
            for listener in [each for each in (new if opening else old) if each not in (old if opening else new)]:
                if opening:
                    now = [*now, listener]
                    sentence = f"{protocol} opens at {listener.endpoint}"
                else:
                    now = [each for each in now if each != listener]
                    sentence = f"{protocol} closes at {listener.endpoint}"
                    if new:
                        sentence += "; clients that are connected stay"
                step = PlanStep("add" if opening else "remove", "listener", protocol, sentence)
                edits = (Edit(("listeners", protocol), [each.plain() for each in now] or GONE),)
                yield Move(step, edits, keep_first=opening, name=protocol, listener=listener)

    # -- exports

    def exports_that_go(self) -> Iterator[Move]:
        """Those that are not wanted any more, and those whose device is another one."""
        new = {spec.name: spec for spec in self._between.new.exports}
        for spec in self._between.old.exports:
            wanted = new.get(spec.name)
            if wanted is None or wanted.device != spec.device:
                sentence = removed_export(spec, wanted, self._between.seen.clients.get(spec.name, 0))
                step = PlanStep("remove", "export", spec.name, sentence)
                yield Move(step, (Edit(("exports", spec.name), GONE),), keep_first=False, name=spec.name)

    def exports_that_come(self) -> Iterator[Move]:
        """Those that are new, and those that change for their clients."""
        old = {spec.name: spec for spec in self._between.old.exports}
        for spec in self._between.new.exports:
            before = old.get(spec.name)
            edits = (self._between.as_wanted("exports", spec.name),)
            if before is None or before.device != spec.device:
                how = ", read-only" if spec.read_only else ""
                step = PlanStep("add", "export", spec.name, f"{spec.device} is exported as {spec.name}{how}")
                yield Move(step, edits, name=spec.name)
            elif before != spec:
                sentence = changed_export(before, spec, self._between.seen.clients.get(spec.name, 0))
                yield Move(PlanStep("change", "export", spec.name, sentence), edits, name=spec.name)

    # -- what is left

    def rest(self) -> Iterator[Move]:
        """What only another process can be."""
        old, new = self._between.old_document, self._between.new_document
        for table in sorted({*old, *new} - set(_SPOKEN_TABLES)):
            before, after = old.get(table, {}), new.get(table, {})
            if not isinstance(before, dict) or not isinstance(after, dict):
                if before != after:
                    yield self._setting((table,), new.get(table, GONE))
                continue
            for key in sorted({*before, *after}):
                if before.get(key, GONE) != after.get(key, GONE):
                    yield self._setting((table, key), after.get(key, GONE))

    def _setting(self, place: tuple[str, ...], value: object) -> Move:
        key = ".".join(place)
        if value is GONE:
            sentence = f"{key} is what it is without being said, from the next start on"
        else:
            said = repr(value) if isinstance(value, str | int | float) else "as written"
            sentence = f"{key} is {said} from the next start on"
        return Move(PlanStep("change", "daemon", key, sentence, after_restart=True), (Edit(place, value),))
