"""
The description of all this, as an OpenAPI document.
"""

from __future__ import annotations

from dst.admin.routes.calls import API, Call, Raw


async def openapi(api: API, call: Call) -> Raw:
    """The document; it is the same as long as the program is."""
    from dst.admin.openapi import document_file  # here, since it is made of the table that this is a part of

    file = document_file()
    headers = (("Cache-Control", "no-cache"),)
    if call.request.setETag(file.etag):
        return Raw(b"", file.content_type, 304, headers)
    return Raw(file.content, file.content_type, 200, headers)
