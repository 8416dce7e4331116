"""For people who write providers: conformance suites and devices that misbehave on demand."""

from dst.testing.device_suite import block_device_suite
from dst.testing.node_suite import node_suite
from dst.testing.specimen import Specimen, conformance_tests

__all__ = ["Specimen", "block_device_suite", "conformance_tests", "node_suite"]
