"""
How soon do random lives find a bug that was put in on purpose?

::

    python -m test.scenarios.hunt                   every rule in turn, 200 seeds each
    python -m test.scenarios.hunt ack_all lease     these only
"""

from __future__ import annotations

import argparse
import os
import time

from twisted.logger import globalLogBeginner

from test.scenarios.lives import live
from test.scenarios.mutations import RULES, without

__all__ = ["SEEDS_MAX", "first_found"]

SEEDS_MAX = 200
"""Within so many seeds a bug must be found."""


def first_found(rule: str, first: int = 0, count: int = SEEDS_MAX) -> tuple[int, str] | None:
    """The first seed that breaks a promise without this rule, and which."""
    for seed in range(first, first + count):
        try:
            with without(rule):
                live(seed)
        except Exception as error:
            return seed, f"{type(error).__name__}: {error}"
    return None


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m test.scenarios.hunt")
    parser.add_argument("rules", nargs="*", metavar="RULE")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=SEEDS_MAX)
    options = parser.parse_args()
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)
    missed = 0
    for rule in options.rules or RULES:
        began = time.monotonic()
        found = first_found(rule, options.first, options.seeds)
        missed += found is None
        where = f"seed {found[0]}: {found[1][:100]}" if found else f"not in {options.seeds} seeds"
        print(f"{rule}: {where} ({time.monotonic() - began:.0f} s)", flush=True)
    os._exit(bool(missed))


if __name__ == "__main__":
    main()
