"""
The files of the web page, in C{page/}: served as they are; nothing is built, nothing is fetched from elsewhere.
"""

from __future__ import annotations

import hashlib
from importlib import resources

from attrs import frozen

__all__ = ["PageFile", "load_page"]

_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "tree.js": "text/javascript; charset=utf-8",
    "why.js": "text/javascript; charset=utf-8",
    "words.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


@frozen
class PageFile:
    """
    One file of the page.

    @ivar etag: of its content, so that a browser fetches it once, and again after an upgrade.
    """

    content: bytes
    content_type: str
    etag: bytes


def load_page() -> dict[str, PageFile]:
    """Name -> file; these and no others are served."""
    directory = resources.files("dst.admin") / "page"
    page = {}
    for name, content_type in _TYPES.items():
        content = (directory / name).read_bytes()
        page[name] = PageFile(content, content_type, b'"' + hashlib.sha256(content).hexdigest()[:32].encode() + b'"')
    return page
