"""
The daemon as numbers.
"""

from __future__ import annotations

from dst.admin.metrics import CONTENT_TYPE
from dst.admin.routes.calls import API, Call, Raw

__all__ = ["metrics"]


async def metrics(api: API, call: Call) -> Raw:
    """What Prometheus reads."""
    return Raw(await api.look(api.metrics.text(), "the metrics"), CONTENT_TYPE)
