"""
The files of the web page, in C{page/}: served as they are; nothing is built, nothing is fetched from elsewhere.
"""

from __future__ import annotations

import hashlib
from importlib import resources

from attrs import frozen

__all__ = ["PageFile", "load_page"]

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""What a browser is told a file is, by the end of its name; a file with another end is not served."""


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
    page = {}
    for file in (resources.files("dst.admin") / "page").iterdir():
        content_type = _TYPES.get(file.name[file.name.rfind(".") :])
        if content_type is not None:
            content = file.read_bytes()
            etag = b'"' + hashlib.sha256(content).hexdigest()[:32].encode() + b'"'
            page[file.name] = PageFile(content, content_type, etag)
    return page
