"""
What belongs to a daemon itself, and is no medium for anybody's data.

Whoever may configure a daemon makes nodes of files, exports them, and reads and writes what is in them.  The keys of
the daemon, its tokens, and the configuration, which names programs to run, must not be had in that way.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from attrs import frozen

from dst.cluster.rules import Finding
from dst.cluster.topology import Topology, absolute_uri

__all__ = ["OwnFiles"]


@frozen
class OwnFiles:
    """
    Where they are, with all symbolic links followed.

    @ivar directories: nothing in them is a medium.
    @ivar configurations: a directory in which no C{.toml} is one, or C{None}.
    """

    directories: tuple[str, ...]
    configurations: str | None

    @classmethod
    def of(cls, topology: Topology, configuration: str | None) -> OwnFiles:
        """
        Those of a daemon that runs C{topology}.

        @param configuration: the path of the file that it is from.
        """
        state_dir = topology.daemon.state_dir
        found = [topology.security_dir(), None if state_dir is None else topology.path(state_dir)]
        return cls(
            tuple(os.path.realpath(each) for each in found if each is not None),
            None if configuration is None else os.path.dirname(os.path.realpath(configuration)),
        )

    def wrong_with(self, topology: Topology) -> Iterator[Finding]:
        """The nodes of C{topology} that would be one of these files."""
        for spec in topology.nodes:
            if spec.scheme == "file":
                path = _path_of(absolute_uri(spec.uri, topology.base_dir))
                if self.has(path):
                    sentence = f"{path} belongs to the daemon itself and is no medium; name a file elsewhere"
                    yield Finding(("nodes", spec.name, "uri"), sentence)

    def has(self, path: str) -> bool:
        """Whether C{path} is one of them."""
        real = os.path.realpath(path)
        if any(os.path.commonpath([real, each]) == each for each in self.directories):
            return True
        return os.path.dirname(real) == self.configurations and real.endswith(".toml")


def _path_of(uri: str) -> str:
    rest = uri.partition(":")[2].partition("?")[0]
    return re.sub("^/+", "/", unquote(urlsplit(uri).path if rest.startswith("//") else rest))
