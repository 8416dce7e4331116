"""The files of the web page, by themselves: what they refer to is there, and nothing in them comes from elsewhere."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from dst.admin.page_files import load_page

NAMESPACE = "http://www.w3.org/2000/svg"
"""A name that looks like an address."""


class PageFilesTests(SynchronousTestCase):
    """All of them."""

    def setUp(self) -> None:
        self.page = load_page()
        self.texts = {name: file.content.decode() for name, file in self.page.items()}
        self.scripts = {name: text for name, text in self.texts.items() if name.endswith(".js")}

    def test_types(self) -> None:
        """Each has the type that its name says, and a tag of its own, so that a browser keeps it until it changes."""
        types = {name.rpartition(".")[2]: file.content_type.partition(";")[0] for name, file in self.page.items()}
        self.assertEqual(
            {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}, types
        )
        self.assertEqual(len(self.page), len({file.etag for file in self.page.values()}))
        self.assertIn("index.html", self.page)

    def test_references(self) -> None:
        """What the page and its modules load is there; every file is loaded by something."""
        loaded = set(re.findall(r'(?:src|href)="([a-z]+\.[a-z]+)"', self.texts["index.html"]))
        for text in self.scripts.values():
            loaded |= set(re.findall(r'(?:from|import) "\./([a-z]+\.js)"', text))
        self.assertEqual(set(self.page) - {"index.html"}, loaded)

    def test_elements(self) -> None:
        """Every element that a script looks for by its name is on the page, once."""
        ids = re.findall(r'\bid="([a-z-]+)"', self.texts["index.html"])
        self.assertEqual(len(ids), len(set(ids)))
        wanted = {name for text in self.scripts.values() for name in re.findall(r'\$\("([a-z-]+)"\)', text)}
        self.assertGreater(len(wanted), 30)
        self.assertEqual(set(), wanted - set(ids))

    def test_nothing_from_elsewhere(self) -> None:
        """No address of another site, and nothing that the policy of the page would have to be loosened for."""
        for name, text in self.texts.items():
            self.assertNotRegex(text.replace(NAMESPACE, ""), r"(?i)https?:|//[a-z0-9-]+\.[a-z]", name)
        for name, text in self.scripts.items():
            self.assertNotRegex(
                text, r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", name
            )
        self.assertNotRegex(self.texts["index.html"], r"\son[a-z]+=|\sstyle=|<style|javascript:")

    def test_dark_twice(self) -> None:
        """Dark is the same whether the system or the reader has chosen it, and has every colour that light has."""
        text = self.texts["style.css"]
        blocks = [
            dict(re.findall(r"(--[a-z-]+): ([^;]+);", block)) for block in re.findall(r":root[^{]*{([^}]*)}", text)
        ]
        light, by_system, by_reader = blocks
        self.assertEqual(by_system, by_reader)
        self.assertEqual(light.keys(), by_reader.keys())
        self.assertGreater(len(light), 20)

    def test_colours_are_named(self) -> None:
        """Every colour that is used is one of those."""
        named = set(re.findall(r"(--[a-z-]+):", self.texts["style.css"]))
        for name in ("style.css", "parts.css"):
            used = set(re.findall(r"var\((--[a-z-]+)", self.texts[name]))
            self.assertEqual(set(), used - named - {"--level"}, name)
