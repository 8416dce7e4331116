"""Lets DST find the algorithm C{twin}."""

from dst_twin import TwinProvider

twin = TwinProvider()
