"""Who fences keeps the promises of C{IFenced}; who stands behind a fence keeps those of a node."""

from __future__ import annotations

import os

from twisted.internet.task import Clock

from dst.nodes.memory import MemoryDevice
from dst.nodes.remote import RemoteNode
from dst.recovery.fence import Fence
from dst.recovery.fenced_device import FencedDevice, UnclaimedNode
from dst.recovery.fenced_node import FencedNode
from dst.recovery.state_files import MemoryFiles
from dst.testing import quick_suite
from dst.testing.device_suite import block_device_suite
from dst.testing.fence_suite import fence_suite
from dst.testing.node_suite import node_suite
from dst.testing.specimen import Specimen, suite_class
from test.recovery.fencing import LocalWorld, QuickWireWorld, WireWorld


class FencedNodeFenceTests(fence_suite(FencedNode, LocalWorld)):  # type: ignore[misc]
    """A device of this daemon fences."""


class RemoteNodeFenceTests(fence_suite(RemoteNode, WireWorld)):  # type: ignore[misc]
    """An export of another daemon fences."""


class QuickRemoteNodeFenceTests(fence_suite(RemoteNode, QuickWireWorld)):  # type: ignore[misc]
    """An export of another daemon fences whose device needs no Deferred for each block."""


def fenced(read_only: bool = False) -> Specimen:
    clock = Clock()
    fence = Fence(clock, clock.seconds, MemoryFiles(), "m", os.urandom)
    return Specimen(FencedNode(clock, MemoryDevice(clock, "m", 4 << 20, read_only=read_only), fence), clock=clock)


def behind() -> Specimen:
    clock = Clock()
    device = MemoryDevice(clock, "m", 4 << 20)
    device.open()
    return Specimen(FencedDevice(clock, device), clock=clock)  # type: ignore[arg-type]


def unclaimed() -> Specimen:
    clock = Clock()
    fence = Fence(clock, clock.seconds, MemoryFiles(), "m", os.urandom)
    fence.open()
    device = MemoryDevice(clock, "m", 4 << 20)
    device.open()
    return Specimen(UnclaimedNode(clock, device, fence), clock=clock)


class UnclaimedNodeSuite(block_device_suite(UnclaimedNode, lambda case: unclaimed())):  # type: ignore[misc]
    """Users without a claim see a device like any other."""


class FencedNodeSuite(  # type: ignore[misc]
    node_suite(FencedNode, lambda case: fenced(), make_read_only=lambda case: fenced(True))
):
    """A device behind a fence is a node like any other."""


class FencedDeviceSuite(block_device_suite(FencedDevice, lambda case: behind())):  # type: ignore[misc]
    """What is asked through a fence is done by the device."""


class FencedDeviceReadsNowTests(  # type: ignore[misc]
    suite_class(quick_suite.ReadsNowSuite, FencedDevice, lambda case: behind())
):
    """What is asked through a fence is read at once where the device can."""


class FencedDeviceWritesTogetherTests(  # type: ignore[misc]
    suite_class(quick_suite.WritesTogetherSuite, FencedDevice, lambda case: behind())
):
    """What is asked through a fence is written together where the device can."""


class FencedNodeReadsNowTests(  # type: ignore[misc]
    suite_class(quick_suite.ReadsNowSuite, FencedNode, lambda case: fenced())
):
    """A node behind a fence reads at once where the device can."""


class FencedNodeWritesTogetherTests(  # type: ignore[misc]
    suite_class(quick_suite.WritesTogetherSuite, FencedNode, lambda case: fenced())
):
    """A node behind a fence writes together where the device can."""
