"""For people who write providers: conformance suites and devices that misbehave on demand."""

from dst.testing.algorithm_suite import algorithm_suite
from dst.testing.device_suite import FailedFlushSuite, block_device_suite
from dst.testing.disk import SimulatedDisk
from dst.testing.exporter_suite import DeviceExports, export_provider_suite
from dst.testing.faulty import FaultyDevice, Operation, faulty_disk
from dst.testing.fence_suite import fence_suite
from dst.testing.media import CachedWrite, SimulatedMedia
from dst.testing.node_suite import node_suite
from dst.testing.provider_suites import algorithm_provider_suite, exports_suite, node_provider_suite
from dst.testing.quick_suite import ReadsNowSuite, WritesTogetherSuite
from dst.testing.specimen import Specimen, conformance_tests
from dst.testing.telling_suite import WritesAndTellsSuite

__all__ = [
    "CachedWrite",
    "DeviceExports",
    "FailedFlushSuite",
    "FaultyDevice",
    "Operation",
    "ReadsNowSuite",
    "SimulatedDisk",
    "SimulatedMedia",
    "Specimen",
    "WritesAndTellsSuite",
    "WritesTogetherSuite",
    "algorithm_provider_suite",
    "algorithm_suite",
    "block_device_suite",
    "conformance_tests",
    "export_provider_suite",
    "exports_suite",
    "faulty_disk",
    "fence_suite",
    "node_provider_suite",
    "node_suite",
]
