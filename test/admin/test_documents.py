"""Edits of the document that says what is wanted."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dst.admin.documents import (
    add_member,
    add_table,
    allow,
    deny,
    member_words,
    options_of,
    remove_member,
    remove_table,
    table_of,
    users_of,
)
from dst.errors import InvalidRequest, NotFound
from dst.testing.fake_administration import example_document


class DocumentTests(SynchronousTestCase):
    """L{dst.admin.documents}"""

    def setUp(self) -> None:
        self.document = example_document()

    def test_table(self) -> None:
        """A table is found by its name; one that is nearly called that is suggested."""
        self.assertEqual({"device": "vol"}, table_of(self.document, "exports", "vol"))
        error = self.assertRaises(NotFound, table_of, self.document, "storages", "vool")
        self.assertIn("did you mean 'vol'?", error.message)

    def test_add(self) -> None:
        """Nodes and storages share their names; exports have names of their own."""
        add_table(self.document, "nodes", "d", {"uri": "memory:"})
        self.assertEqual({"uri": "memory:"}, self.document["nodes"]["d"])
        self.assertRaises(InvalidRequest, add_table, self.document, "nodes", "vol", {})
        self.assertRaises(InvalidRequest, add_table, self.document, "storages", "a", {})
        self.assertRaises(InvalidRequest, add_table, self.document, "exports", "vol", {})
        add_table(self.document, "exports", "a", {"device": "a"})

    def test_remove(self) -> None:
        """What something stands on is not removed; and who that is is said."""
        self.document["nodes"]["part"] = {"parent": "spare", "size": "1M"}
        for kind, name, user in (
            ("nodes", "a", "storage vol"),
            ("nodes", "spare", "node part"),
            ("storages", "vol", "export vol"),
        ):
            error = self.assertRaises(InvalidRequest, remove_table, self.document, kind, name)
            self.assertIn(f"is used by {user}", error.message)
        remove_table(self.document, "storages", "vol", with_exports=True)
        self.assertEqual({}, self.document["exports"])
        self.assertNotIn("vol", self.document["storages"])
        self.assertEqual([], users_of(self.document, "a"))
        remove_table(self.document, "nodes", "a")

    def test_members(self) -> None:
        """A member is the name of a node, or NAME=URI, which makes one; a URI may have an equals sign."""
        self.assertEqual(["spare", "d"], member_words(self.document, ["spare", "d=file:/srv/d.img?size=1G"]))
        self.assertEqual({"uri": "file:/srv/d.img?size=1G"}, self.document["nodes"]["d"])
        self.assertRaises(NotFound, member_words, self.document, ["nothing"])
        self.assertRaises(NotFound, member_words, self.document, ["file:/srv/e.img?size=1G"])

    def test_add_member(self) -> None:
        """One more member, or one more witness; none twice."""
        self.assertEqual("spare", add_member(self.document, "vol", "spare", witness=False))
        self.assertEqual(["a", "b", "c", "spare"], self.document["storages"]["vol"]["nodes"])
        add_member(self.document, "vol", "w=memory:", witness=True)
        self.assertEqual(["w"], self.document["storages"]["vol"]["witnesses"])
        self.assertRaises(InvalidRequest, add_member, self.document, "vol", "a", witness=True)

    def test_remove_member(self) -> None:
        """A member goes, its node only if that is said; a witness goes by the same word."""
        remove_member(self.document, "vol", "b", with_node=False)
        self.assertEqual(["a", "c"], self.document["storages"]["vol"]["nodes"])
        self.assertIn("b", self.document["nodes"])
        remove_member(self.document, "vol", "c", with_node=True)
        self.assertNotIn("c", self.document["nodes"])
        add_member(self.document, "vol", "spare", witness=True)
        remove_member(self.document, "vol", "spare", with_node=False)
        self.assertNotIn("witnesses", self.document["storages"]["vol"])
        self.assertRaises(NotFound, remove_member, self.document, "vol", "spare", with_node=False)

    def test_options(self) -> None:
        """Values are those of TOML, and what is none is a text."""
        given = ["a=1", "b=true", 'c="x=y"', "d=64K", "e=[1, 2]", "f="]
        self.assertEqual({"a": 1, "b": True, "c": "x=y", "d": "64K", "e": [1, 2], "f": ""}, options_of(given))
        self.assertRaises(InvalidRequest, options_of, ["nothing"])
        self.assertRaises(InvalidRequest, options_of, ["=1"])

    def test_allow_and_deny(self) -> None:
        """Lines about the same people are replaced, and taken out; without the last one nobody is left."""
        table = table_of(self.document, "exports", "vol")
        self.assertRaises(InvalidRequest, deny, table, "alpha", None)
        allow(table, "read", "alpha", None)
        allow(table, "write", "alpha", None)
        allow(table, "read", "alpha", "10.0.0.0/8")
        self.assertEqual(
            [
                {"access": "write", "identity": "alpha"},
                {"access": "read", "identity": "alpha", "network": "10.0.0.0/8"},
            ],
            table["allow"],
        )
        self.assertRaises(NotFound, deny, table, "beta", None)
        deny(table, "alpha", None)
        deny(table, "alpha", "10.0.0.0/8")
        self.assertEqual([], table["allow"])
