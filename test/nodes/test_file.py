"""Tests of L{dst.nodes.file} that need no file."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dst.errors import ConfigurationError, MediaError, NoSpace, ReadOnly
from dst.interfaces import INodeProvider
from dst.nodes.file import FileNode, FileNodeProvider
from dst.nodes.file_media import error_of


class FileNodeProviderTests(SynchronousTestCase):
    """C{file:} URIs."""

    def node(self, uri: str, **options: object) -> FileNode:
        """What the provider makes of it."""
        return FileNodeProvider().node_from_uri(Clock(), "f", uri, dict(options))

    def test_provides(self) -> None:
        """It is a node provider."""
        self.assertTrue(verifyObject(INodeProvider, FileNodeProvider()))

    def test_paths(self) -> None:
        """The path follows the scheme, with or without an empty host, percent-encoded where it must be."""
        for uri, path in [
            ("file:a.img", "a.img"),
            ("file:/srv/a.img?size=64M", "/srv/a.img"),
            ("file:///srv/a.img?size=64M&read_only=true&deadline_s=2.5", "/srv/a.img"),
            ("file://localhost/srv/a.img", "/srv/a.img"),
            ("file:/srv/odd%3Fname%20here", "/srv/odd?name here"),
        ]:
            self.assertEqual(path, self.node(uri).path)

    def test_bad(self) -> None:
        """What is wrong is said, with what was expected."""
        for uri, sentence in [
            ("file:", "names no file; expected file:path?size=64M"),
            ("file:a?size=0", "has size=0"),
            ("file:a?size=-1", "has a bad size: '-1' is not a size"),
            ("file:a?deadline_s=soon", "has deadline_s='soon'; expected seconds, above 0"),
            ("file:a?readonly=true", "has the unknown setting 'readonly'"),
            ("file://elsewhere/a", "names the host 'elsewhere'"),
        ]:
            self.assertIn(sentence, str(self.assertRaises(ConfigurationError, self.node, uri)))


class ErrorOfTests(SynchronousTestCase):
    """What system errors mean."""

    def test_kinds(self) -> None:
        """Each class of C{errno} has its own error, with the path and what to do."""
        for number, expected in [(28, NoSpace), (122, NoSpace), (27, NoSpace), (30, ReadOnly), (5, MediaError)]:
            error = error_of(OSError(number, "x"), "writing", "a.img")
            self.assertIs(expected, type(error))
            self.assertIn("writing a.img failed: ", str(error))
