"""
A fenced device in virtual time, with or without a wire before it.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.task import Clock

from dst.interfaces import OpenExport
from dst.nodes.memory import MemoryDevice
from dst.recovery.fence import Fence
from dst.recovery.fenced_device import UnclaimedNode
from dst.recovery.fenced_node import FencedNode
from dst.recovery.state_files import MemoryFiles
from dst.testing.faulty import FaultyDevice
from test.transport.serving import QuickDevice, Serving


class LocalWorld:
    """
    Storages of one daemon over one of its devices.

    @ivar files: what is kept of promises.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.slept_s = 0.0
        self.files = MemoryFiles()
        self.memory = MemoryDevice(self.clock, "vol", 1 << 20)
        self.device = FaultyDevice(self.clock, self.memory)
        self.device.open()
        self.restart()

    def boottime(self) -> float:
        return self.clock.seconds() + self.slept_s

    def restart(self) -> None:
        self.fence = Fence(self.clock, self.boottime, self.files, "vol", os.urandom)

    def suspend(self, seconds: float) -> None:
        self.slept_s += seconds

    def node(self) -> Any:
        node = FencedNode(self.clock, self.device, self.fence)
        node.open()
        for _ in range(10):
            self.clock.advance(0)
        return node


class WireWorld(Serving):
    """
    Storages of other daemons, each at the end of a connection.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.slept_s = 0.0
        self.files = MemoryFiles()
        self.new_fence()
        ordinary = self.exports.open_export

        def open_export(name: str, identity: object | None) -> OpenExport:
            opened = ordinary(name, identity)
            if not self.fence.identity:
                self.fence.open()
            return OpenExport(
                UnclaimedNode(self.clock, opened.node, self.fence), opened.read_only, self.fence, opened.node
            )

        self.exports.open_export = open_export  # type: ignore[method-assign]
        self.names = 0

    def new_fence(self) -> None:
        self.fence = Fence(self.clock, self.boottime, self.files, "vol", os.urandom)

    def boottime(self) -> float:
        return self.clock.seconds() + self.slept_s

    def restart(self) -> None:
        self.new_fence()
        self.restart_server()

    def suspend(self, seconds: float) -> None:
        self.slept_s += seconds

    def node(self, *arguments: Any, **options: Any) -> Any:
        """Open, unlike that of L{Serving}."""
        self.names += 1
        node = super().node(f"r{self.names}", **options)
        self.result(node.open())
        return node


class QuickWireWorld(WireWorld):
    """The same with a device that needs no Deferred for each block."""

    device: QuickDevice
    device_type = QuickDevice
