"""How the documentation is built: nothing is downloaded, and every warning is an error (C{make docs})."""

from dst import __version__

project = "DST"
author = "the DST authors"
copyright = "the DST authors"
version = release = __version__

extensions: list[str] = []
exclude_patterns = ["_build"]
root_doc = "index"
nitpicky = True
highlight_language = "none"

html_theme = "alabaster"
html_theme_options = {
    "description": "One dependable disk out of several undependable ones.",
    "fixed_sidebar": True,
    "page_width": "70em",
    "body_max_width": "48em",
}
html_copy_source = False
html_show_sphinx = False

man_pages = [("configuration", "dst.toml", "the topology of a DST daemon", [author], 5)]
"""The other pages are made of what the programs say of themselves: packaging/man_pages.py."""
