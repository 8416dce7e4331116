"""
Whether what is sent to a URL can be read on the way.

It is looked at before a token is sent, which is worth as much as what its daemon has.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

__all__ = ["goes_in_the_clear"]


def goes_in_the_clear(url: str) -> bool:
    """Whether it leaves this machine without TLS."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "http" or host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return True
