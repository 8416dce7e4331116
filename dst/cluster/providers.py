"""
Who makes nodes and storages, and who serves them: every plugin of L{dst.plugins}, DST's own and third parties'.

One that cannot be loaded is named in the log and left out; the daemon, and whatever does not
need it, goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from attrs import define, field
from twisted.logger import Logger
from twisted.plugin import CachedDropin, CachedPlugin, getCache
from twisted.python.modules import getModule

import dst.plugins
from dst.interfaces import IAlgorithmProvider, IExportProvider, INodeProvider
from dst.security.interfaces import ISecurity

__all__ = ["Providers"]

_log = Logger()

T = TypeVar("T")

_NO_PROTOCOLS = frozenset({"admin", "base_dir", "state_dir"})
"""A script says them beside the protocols, and they are something else."""


@define
class Providers:
    """
    The providers by what a topology calls them.

    @ivar nodes: by URI scheme.
    @ivar algorithms: by the name of the algorithm.
    @ivar exports: by protocol.
    @ivar broken: one sentence for each plugin that could not be used.
    @ivar security: the certificates of the daemon that uses them, for those who have C{takes_security = True}, or
        C{None}.
    """

    nodes: dict[str, INodeProvider] = field(factory=dict)
    algorithms: dict[str, IAlgorithmProvider] = field(factory=dict)
    exports: dict[str, IExportProvider] = field(factory=dict)
    broken: list[str] = field(factory=list)
    security: ISecurity | None = None

    def for_security(self, provider: object) -> dict[str, ISecurity | None]:
        """What C{provider} is given besides what every provider is."""
        return {"security": self.security} if getattr(provider, "takes_security", False) else {}

    @classmethod
    def found(cls) -> Providers:
        """Those that are installed."""
        providers = cls()
        dropins = getCache(dst.plugins)
        for module in getModule(dst.plugins.__name__).iterModules():
            if module.name.rpartition(".")[2] not in dropins:
                providers.broken.append(f"the plugin module {module.name} is left out, it cannot be imported")
        for where, makes_nodes in _plugins(dropins, INodeProvider, providers.broken):
            providers._add(providers.nodes, makes_nodes, "scheme", where)
        for where, makes_storages in _plugins(dropins, IAlgorithmProvider, providers.broken):
            providers._add(providers.algorithms, makes_storages, "algorithm", where)
        for where, serves in _plugins(dropins, IExportProvider, providers.broken):
            providers._add(providers.exports, serves, "protocol", where, _NO_PROTOCOLS)
        for sentence in providers.broken:
            _log.error("{sentence}", sentence=sentence)
        return providers

    def _add(
        self, table: dict[str, T], plugin: T, word: str, where: str, reserved: frozenset[str] = frozenset()
    ) -> None:
        key = getattr(plugin, word, None)
        if not isinstance(key, str) or not key:
            self.broken.append(f"the plugin {where} is left out: its {word} is {key!r}, expected a name")
        elif key in reserved:
            self.broken.append(
                f"the plugin {where} is left out: its {word} is {key!r}, which means something else in a topology"
            )
        elif key in table:
            other = type(table[key])
            self.broken.append(
                f"the plugin {where} is left out: "
                f"{other.__module__}.{other.__qualname__} has the {word} {key!r} already"
            )
        else:
            table[key] = plugin


def _plugins(dropins: dict[str, CachedDropin], interface: type[T], broken: list[str]) -> Iterator[tuple[str, T]]:
    """
    Every plugin that says it provides C{interface}, with the name it has in its module.

    As C{twisted.plugin.getPlugins}, but it names what is broken, and DST's own come first: nobody
    takes the scheme C{file} away by accident.
    """
    for key in sorted(dropins, key=lambda key: (not key.startswith("dst_"), key)):
        for cached in dropins[key].plugins:
            where = f"{cached.dropin.moduleName}.{cached.name}"
            if not _provides(cached, interface):
                continue
            try:
                yield where, cached.load()
            except Exception as error:
                sentence = f"the plugin {where} is left out, it cannot be loaded: {type(error).__name__}: {error}"
                if sentence not in broken:
                    broken.append(sentence)


def _provides(cached: CachedPlugin, interface: type[object]) -> bool:
    return any(provided.isOrExtends(interface) for provided in cached.provided)
