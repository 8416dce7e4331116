"""A storage of two devices that must always agree."""

from dst_twin.twin import Twin, TwinProvider

__all__ = ["Twin", "TwinProvider"]
