"""Tests of L{dst.cluster.config} and the rules behind it: every mistake has a line and a way out."""

from __future__ import annotations

import ipaddress
import os
from textwrap import dedent

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dst.cluster.config import BadTopology, Problem, check, load, load_script
from dst.cluster.rules import LISTENERS_MAX
from dst.cluster.topology import Daemon, ExportSpec, ListenerSpec, NodeSpec, SliceSpec, StorageSpec
from dst.identity import Access, AccessRule
from dst.status_json import STATUS_DEPTH_MAX
from test.cluster.fixtures import memory_providers
from test.security.machines import Machines

GOOD = """\
[daemon]
state_dir = "state"
admin = "tcp:7480:interface=127.0.0.1"
[listeners]
dst = "tcp:7450:interface=127.0.0.1"
nbd = ["tcp:10809:interface=127.0.0.1", "unix:nbd.sock"]
[nodes.a]
uri = "file:a.img?size=64M"
[nodes.b]
uri = "memory:"
size = "64M"
[nodes.disk]
uri = "file:disk.img"
read_only = false
[nodes.c]
parent = "disk"
start = "1M"
size = 67108864
[storages.vol]
algorithm = "mirror"
nodes = ["a", "b", "c"]
on_loss = "error"
[exports.vol]
device = "vol"
[exports.disk]
device = "disk"
read_only = true
"""


class FileCase(SynchronousTestCase):
    """Writes a file and looks at what is said of it."""

    def write(self, text: str | bytes, name: str = "dst.toml") -> str:
        """A file in a directory of its own."""
        directory = self.mktemp()
        os.makedirs(directory)
        path = os.path.join(directory, name)
        with open(path, "wb") as target:
            target.write(text if isinstance(text, bytes) else text.encode())
        return path

    def said(self, text: str | bytes, name: str = "dst.toml") -> list[tuple[int | None, str]]:
        """Line and sentence of every problem."""
        path = self.write(text, name)
        problems = check(path, memory_providers())
        self.assertEqual({path} if problems else set(), {problem.path for problem in problems})
        return [(problem.line, problem.sentence) for problem in problems]

    def assert_said(self, text: str, *expected: tuple[int | None, str]) -> None:
        """Exactly these problems, each with these words in it."""
        found = self.said(text)
        self.assertEqual([line for line, _ in expected], [line for line, _ in found], found)
        for (_, words), (_, sentence) in zip(expected, found, strict=True):
            for part in words.split(" ... "):
                self.assertIn(part, sentence)


class ReadTests(FileCase):
    """What is right is read as it is written."""

    def test_everything(self) -> None:
        """Every table and key arrives at its place."""
        path = self.write(GOOD)
        topology = load(path, memory_providers())
        self.assertEqual(
            (
                NodeSpec("a", "file:a.img?size=64M"),
                NodeSpec("b", "memory:", {"size": "64M"}),
                NodeSpec("disk", "file:disk.img", {"read_only": False}),
            ),
            topology.nodes,
        )
        self.assertEqual((SliceSpec("c", "disk", 1 << 20, 64 << 20),), topology.slices)
        self.assertEqual((StorageSpec("vol", "mirror", ("a", "b", "c"), {"on_loss": "error"}),), topology.storages)
        self.assertEqual((ExportSpec("vol", "vol"), ExportSpec("disk", "disk", True)), topology.exports)
        self.assertEqual(
            {
                "dst": (ListenerSpec("tcp:7450:interface=127.0.0.1"),),
                "nbd": (ListenerSpec("tcp:10809:interface=127.0.0.1"), ListenerSpec("unix:nbd.sock")),
            },
            topology.listeners,
        )
        self.assertEqual(Daemon("state", "tcp:7480:interface=127.0.0.1"), topology.daemon)
        self.assertEqual(os.path.dirname(os.path.abspath(path)), topology.base_dir)

    def test_check_creates_nothing(self) -> None:
        """A check leaves the directory as it was."""
        path = self.write(GOOD)
        self.assertEqual([], check(path, memory_providers()))
        self.assertEqual(["dst.toml"], os.listdir(os.path.dirname(path)))

    def test_nested_storages(self) -> None:
        """A storage may be a member of another one, whichever is written first."""
        text = """
            [storages.top]
            algorithm = "mirror"
            nodes = ["left", "right"]
            [storages.left]
            algorithm = "mirror"
            nodes = ["a"]
            [storages.right]
            algorithm = "mirror"
            nodes = ["b"]
            [nodes]
            a.uri = "memory:?size=16M"
            b = { uri = "memory:?size=16M" }
            """
        self.assertEqual([], self.said(dedent(text)))


class MistakeTests(FileCase):
    """Every mistake is found, with its line."""

    def test_misspelt_keys(self) -> None:
        """A key that means nothing is an error, with the one that was meant."""
        self.assert_said(
            '[daemon]\nstatedir = "x"\n[exports.vol]\ndevice = "a"\nread_olny = true\n[nodes.a]\n'
            'uri = "memory:?size=1M"\n[storage.vol]\nx = 1\n',
            (2, "[daemon] has the unknown key 'statedir'; did you mean 'state_dir'?"),
            (5, "unknown key 'read_olny'; did you mean 'read_only'?"),
            (8, "a topology has the unknown key 'storage'; did you mean 'storages'?"),
        )

    def test_missing_keys(self) -> None:
        """What is missing is named with an example, and with the key that may have been meant."""
        self.assert_said(
            '[nodes.a]\nurl = "memory:"\n[storages.vol]\nalgorithm = "mirror"\n[exports.vol]\n'
            '[nodes.s]\nparent = "a"\n',
            (1, "[nodes.a] has no uri; is it called 'url'? ... expected uri = \"file:a.img?size=64M\""),
            (3, '[storages.vol] has no nodes ... nodes = ["a", "b"]'),
            (5, '[exports.vol] has no device ... device = "vol"'),
            (6, "[nodes.s] has no size"),
        )

    def test_wrong_kinds(self) -> None:
        """A value of the wrong kind is said as a person would, with what was expected."""
        self.assert_said(
            "exports = 3\n[listeners]\nnbd = 10809\n"
            'dst = ["tcp:7450:interface=127.0.0.1", 7]\n[daemon]\nstate_dir = true\nadmin = ""\n'
            "[nodes]\na = 1\n[nodes.b]\nuri = [1]\n[nodes.c]\nuri = 'memory:?size=1M'\nsize = {x = 1}\n"
            "[storages.vol]\nalgorithm = 'mirror'\nnodes = [\n'c',\n2.5]\n",
            (1, "exports is the number 3; expected a table, [exports]"),
            (3, "nbd is the number 10809; expected a text or a list of texts"),
            (4, "dst has the number 7 in it; expected an endpoint string"),
            (6, "state_dir is true; expected a text"),
            (7, "admin is an empty text; expected a text"),
            (9, "a is the number 1; expected a table, [nodes.NAME]"),
            (11, "uri is a list; expected uri ="),
            (14, "size is a table; expected a plain value"),
            (19, "nodes has the number 2.5 in it"),
        )

    def test_unknown_names(self) -> None:
        """A name that nobody has is an error where it is used, with the nearest."""
        self.assert_said(
            '[nodes.alpha]\nuri = "memory:?size=16M"\n[storages.vol]\nalgorithm = "miror"\n'
            'nodes = [\n  "alpha",\n  "aplha",\n]\n[exports.vol]\ndevice = "volume"\n[nodes.x]\nuri = "flie:x"\n'
            '[nodes.y]\nuri = "no uri"\n[nodes.s]\nparent = "zzz"\nsize = "1M"\n',
            (4, "there is no algorithm 'miror'; did you mean 'mirror'?"),
            (7, "there is no node or storage 'aplha'; did you mean 'alpha'?"),
            (10, "there is no node or storage 'volume'"),
            (12, "no plugin makes nodes of flie:; did you mean 'file'?"),
            (14, "'no uri' is no node URI; expected one as file:a.img?size=64M"),
            (16, "there is no node or storage 'zzz'; known are alpha, s, vol, x, y"),
        )

    def test_follow_up_mistakes_are_not_reported(self) -> None:
        """What refers to a device that could not be read is not wrong because of it."""
        self.assert_said(
            '[nodes.a]\nuir = "memory:"\n[storages.vol]\nalgorithm = "mirror"\nnodes = ["a"]\n'
            '[exports.vol]\ndevice="vol"\n',
            (1, "[nodes.a] has no uri; is it called 'uir'?"),
        )

    def test_used_twice(self) -> None:
        """A device is a member once; two nodes never share their media; two tables never share a name."""
        self.assert_said(
            '[nodes.a]\nuri = "memory:?size=16M"\n[storages.v]\nalgorithm = "mirror"\nnodes = ["a", "a"]\n'
            '[storages.w]\nalgorithm = "mirror"\nnodes = ["a"]\n[nodes.x]\nuri = "file:x.img"\n'
            '[nodes.y]\nuri = "file:./x.img?size=1M"\n[storages.a]\nalgorithm = "mirror"\nnodes = ["x"]\n',
            (5, "'a' is used twice: it is a member of 'v' already"),
            (8, "'a' is used twice"),
            (12, "'file:./x.img?size=1M' is what node 'x' is already"),
            (13, "the name 'a' is taken by [nodes.a]"),
        )

    def test_ring(self) -> None:
        """Nothing is below itself, however far."""
        self.assert_said(
            '[storages.a]\nalgorithm = "mirror"\nnodes = ["s"]\n[nodes.s]\nparent = "b"\nsize = "1M"\n'
            '[storages.b]\nalgorithm = "mirror"\nnodes = ["a"]\n',
            (5, "'s' is below itself: s <- b <- a <- s; expected a tree"),
        )

    def test_own_member(self) -> None:
        """A storage is not its own member."""
        self.assert_said(
            '[storages.a]\nalgorithm = "mirror"\nnodes = ["a"]\n', (3, "'a' is below itself: a <- a; expected a tree")
        )

    def test_slices(self) -> None:
        """Slices of one parent do not overlap, are somewhere, and are of nothing that is a member."""
        self.assert_said(
            '[nodes.d]\nuri = "memory:?size=16M"\n[nodes.s1]\nparent = "d"\nsize = "2M"\n'
            '[nodes.s2]\nparent = "d"\nstart = "1M"\nsize = "1M"\n[nodes.s3]\nparent = "d"\nstart = 0\nsize = 0\n'
            '[nodes.e]\nuri = "memory:?size=16M"\n[storages.v]\nalgorithm = "mirror"\nnodes = ["e"]\n'
            '[nodes.s4]\nparent = "e"\nsize = "many"\n[nodes.s5]\nparent = "e"\nsize = "1M"\nlength = 3\n'
            '[nodes.s6]\nparent = "e"\nsize = "1M"\n',
            (8, "the slice 's2' (1048576+1048576) overlaps 's1' (0+2097152)"),
            (13, "the slice of 0 bytes from 0 is no part of any device"),
            (21, "bad size: 'many' is not a size; expected"),
            (25, "[nodes.s5] has the unknown key 'length'"),
            (27, "'e' is a member of 'v' and cannot be sliced as well"),
        )

    def test_writable_leg(self) -> None:
        """Nobody writes to a part behind the back of the whole; reading it is fine."""
        text = (
            '[nodes.a]\nuri = "memory:?size=16M"\n[storages.v]\nalgorithm = "mirror"\nnodes = ["a"]\n'
            '[exports.leg]\ndevice = "a"\nread_only = {}\n'
        )
        self.assert_said(text.format("false"), (7, "'a' is part of another device ... read_only = true"))
        self.assert_said(text.format("true"))

    def test_names(self) -> None:
        """A name is letters, digits, dots, hyphens and underscores, up to 64."""
        for name in ("a b", "ä", "x" * 65, "../etc", "", "..", "a/b"):
            self.assert_said(f'[nodes."{name}"]\nuri = "memory:?size=1M"\n', (1, "is no name; expected up to 64"))
        for name in ("x" * 64, "a.b_c-D9"):
            self.assert_said(f'[nodes."{name}"]\nuri = "memory:?size=1M"\n')

    def test_endpoints(self) -> None:
        """An address that nothing can listen on is found before anything starts."""
        for text in ("7450", "tcp:", "tcp:70000", "tcp:-1", "tcp:http", "pigeon:1", "tcp:1:interfacs=::1", "unix:"):
            self.assert_said(f'[listeners]\ndst = ["tcp:1:interface=127.0.0.1",\n "{text}"]\n', (3, "expected"))
        many = ", ".join(f'"tcp:{port}:interface=127.0.0.1"' for port in range(1, LISTENERS_MAX + 2))
        self.assert_said(f"[listeners]\ndst = [{many}]\n", (1, f"{LISTENERS_MAX} is the most"))
        for text in (
            "tcp:0:interface=127.0.0.1",
            "tcp:port=80:interface=127.0.0.1",
            "tcp6:7450:interface=\\\\:\\\\:1",
            "unix:a.sock:mode=600",
        ):
            self.assert_said(f'[listeners]\nnbd = "{text}"\n')

    def test_exposed(self) -> None:
        """What others can reach without TLS is refused, unless it was said in plain words."""
        words = "can be reached from other machines and has no TLS ... open_to_the_network = true"
        for text in ("tcp:7450", "tcp:7450:interface=10.1.2.3", "tcp:7450:interface=", "tcp6:7450"):
            self.assert_said(f'[listeners]\ndst = "{text}"\n', (2, words))
            self.assert_said(f'[daemon]\nadmin = "{text}"\n', (2, words))
            self.assert_said(f'[daemon]\nopen_to_the_network = true\n[listeners]\ndst = "{text}"\n')
        for text in (
            "tcp:1:interface=127.9.9.9",
            "tcp:1:interface=localhost",
            "tcp6:1:interface=\\\\:\\\\:1",
            "unix:a",
        ):
            self.assert_said(f'[listeners]\ndst = "{text}"\n')
            self.assert_said(f'[daemon]\nadmin = {{endpoint = "{text}", tls = "off"}}\n')

    def test_tls(self) -> None:
        """What a listener says of TLS is read, and demands certificates."""
        self.assert_said(
            '[listeners]\nnbd = {endpoint = "unix:a", tls = "sometimes"}\ndst = {endpont = "unix:b"}\n'
            '[daemon]\nopen_to_the_network = "yes"\nadmin = {endpoint = "unix:c", tls = "optional"}\n'
            'security_dir = "certificates"\n',
            (2, "tls is 'sometimes'; expected one of off, optional, required"),
            (3, "a listener has no 'endpont'; expected"),
            (5, "it is the text 'yes'; expected true or false"),
            (6, "admin is HTTP or HTTPS"),
            (7, "there is no directory ... certificates"),
        )
        self.assert_said(
            '[listeners]\nnbd = [{endpoint = "tcp:1", tls = "required"}]\n', (2, "there is no certificate")
        )
        path = self.write(
            '[daemon]\nstate_dir = "state"\n[listeners]\nnbd = ["tcp:1", {endpoint = "unix:a", tls = "off"}]\n'
        )
        machines = Machines(os.path.join(os.path.dirname(path), "state"))
        machines.add("security")
        topology = load(path, memory_providers())
        self.assertEqual((ListenerSpec("tcp:1"), ListenerSpec("unix:a", "off")), topology.listeners["nbd"])
        self.assertEqual(
            os.path.join(os.path.dirname(os.path.abspath(path)), "state/security"), topology.security_dir()
        )

    def test_allow(self) -> None:
        """An access list is read strictly: a rule that means nothing must not let anybody in."""
        path = self.write(
            '[nodes.m]\nuri = "memory:?size=1M"\n[exports.nobody]\ndevice = "m"\nallow = []\n'
            '[exports.here]\ndevice = "m"\n'
            '[exports.some]\ndevice = "m"\n'
            'allow = [{access = "write", identity = "alpha"}, {access = "read", network = "10.0.0.0/8"}]\n'
        )
        nobody, here, some = load(path, memory_providers()).exports
        self.assertEqual(((), None), (nobody.allow, here.allow))
        self.assertEqual(
            (
                AccessRule(Access.WRITE, identity="alpha"),
                AccessRule(Access.READ, network=ipaddress.ip_network("10.0.0.0/8")),
            ),
            some.allow,
        )
        for rule, words in (
            ("{}", "a rule has no access"),
            ('{access = "wirte"}', "a rule has the access 'wirte'"),
            ('{access = "read", who = "alpha"}', "a rule has no 'who'; known are access, identity, network"),
            ('{access = "read", identity = ""}', "the identity '' is no name"),
            ('{access = "read", network = "10.0.0.1/8"}', "the network '10.0.0.1/8' is none ... has host bits set"),
            ('{access = "read", network = 10}', "the network 10 is none (not a text)"),
            ("7", "7 is no rule"),
        ):
            text = f'[nodes.m]\nuri = "memory:?size=1M"\n[exports.m]\ndevice = "m"\nallow = [\n{rule}]\n'
            self.assert_said(text, (6, words))
        self.assert_said(text.replace("[\n7]", '"alpha"'), (5, "allow is the text 'alpha'; expected a list of rules"))

    def test_protocols(self) -> None:
        """A protocol that nobody serves is an error at its line, with the one that was meant or those there are."""
        self.assert_said(
            '[listeners]\nnbd = "unix:1"\ndts = "unix:2"\niscsi = ["unix:3"]\n',
            (3, "no plugin serves the protocol 'dts'; did you mean 'dst'?"),
            (4, "no plugin serves the protocol 'iscsi'; known are dst, nbd"),
        )

    def test_same_address_twice(self) -> None:
        """One address serves one protocol."""
        self.assert_said(
            '[daemon]\nopen_to_the_network = true\nadmin = "tcp:7450"\n'
            '[listeners]\ndst = "tcp:7450"\nnbd = "tcp:7450"\n',
            (3, "'tcp:7450' is there twice"),
            (6, "'tcp:7450' is there twice"),
        )

    def test_providers_are_asked(self) -> None:
        """What only a provider knows is an error with the line of what it is about."""
        self.assert_said(
            '[nodes.a]\nuri = "memory:"\n[nodes.b]\nuri = "memory:?size=16M"\ncolour = "red"\n[storages.v]\n'
            'algorithm = "mirror"\nnodes = ["b"]\n[nodes.c]\nuri = "memory:?size=16M"\n[storages.w]\n'
            'algorithm = "mirror"\nnodes = ["c"]\nregion_size = 1000\n[nodes.e]\nuri = "memory:?size=1M"\n'
            '[storages.x]\nalgorithm = "mirror"\nnodes = ["e"]\nhot_regoins = 7\n',
            (2, "memory: has no size"),
            (5, "has the unknown setting 'colour'"),
            (14, "region_size = 1000, expected a power of two"),
            (20, "unknown option hot_regoins; the options are"),
        )

    def test_too_deep(self) -> None:
        """A tree that no status could carry is refused, once."""
        text = '[nodes.s0]\nuri = "memory:?size=16M"\n'
        for level in range(1, STATUS_DEPTH_MAX + 3):
            text += f'[storages.s{level}]\nalgorithm = "mirror"\nnodes = ["s{level - 1}"]\n'
        found = self.said(text)
        self.assertEqual(
            [f"the tree is deeper than {STATUS_DEPTH_MAX} levels at 's{STATUS_DEPTH_MAX}'"], [s for _, s in found]
        )

    def test_load_tells_everything(self) -> None:
        """The exception carries all problems, one a line, in the order of the file."""
        path = self.write("[nodes.a]\nurl = 1\n[nodes.b]\nurl = 2\n")
        with self.assertRaises(BadTopology) as caught:
            load(path, memory_providers())
        self.assertEqual(2, len(caught.exception.problems))
        self.assertEqual("\n".join(map(str, caught.exception.problems)), caught.exception.message)
        self.assertTrue(caught.exception.message.startswith(f"{path}:1: [nodes.a] has no uri"))


class NoTOMLTests(FileCase):
    """Files that are no topology at all."""

    def test_syntax(self) -> None:
        """A mistake in the TOML itself has its line too, also at the end of the file."""
        self.assert_said('[nodes.a]\nuri = "file:a.img\n', (2, "is not TOML here"))
        self.assert_said("[nodes.a]\nuri = [1,\n", (3, "is not TOML here"))
        self.assert_said("[nodes.a]\n[nodes.a]\n", (2, "is not TOML here"))

    def test_missing(self) -> None:
        """A file that is not there, or is a directory."""
        directory = self.mktemp()
        os.makedirs(directory)
        for path, why in [(os.path.join(directory, "x.toml"), "No such file"), (directory, "Is a directory")]:
            problem = check(path, memory_providers())[0]
            self.assertIn(f"{path}: cannot be read: {why}", str(problem))

    def test_no_text(self) -> None:
        """Bytes that are no text have the line of the first of them."""
        self.assertEqual([(3, "is not UTF-8 text; expected a topology")], self.said(b"\n\n\xff\xfe"))

    def test_byte_order_mark(self) -> None:
        """An editor from elsewhere may put a mark in front."""
        self.assertEqual([], self.said(b"\xef\xbb\xbf" + GOOD.encode()))

    def test_deep_nesting(self) -> None:
        """A file made to exhaust the stack is refused."""
        self.assertEqual(1, len(self.said("x = " + "[" * 5000 + "]" * 5000)))

    @given(st.data())
    @settings(max_examples=60, deadline=None)
    def test_damaged(self, data: st.DataObject) -> None:
        """Any damage to a good file is survived, and what is said of it has a line inside it."""
        text = bytearray(GOOD.encode())
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(text) - 1))
            how = data.draw(st.sampled_from(["cut", "insert", "change"]))
            if how == "cut":
                del text[at : at + data.draw(st.integers(1, 30))]
            elif how == "insert":
                text[at:at] = data.draw(st.sampled_from([b'"', b"[", b"]", b"\n", b"=", b"\0", b"'''", b"#"]))
            elif text:
                text[at] = data.draw(st.integers(0, 255))
            if not text:
                break
        for line, _ in self.said(bytes(text)):
            self.assertTrue(line is None or 1 <= line <= text.count(b"\n") + 1)


class ScriptTests(FileCase):
    """A topology as a Python script."""

    def load(self, text: str) -> object:
        """The topology of a script."""
        return load_script(self.write(dedent(text), "t.py"), memory_providers())

    def test_value(self) -> None:
        """The script's C{topology}; paths are relative to the script."""
        path = self.write(
            "from dst.cluster.topology import *\ntopology = topology(export(mirror('vol', file('a.img'))))\n", "t.py"
        )
        topology = load_script(path, memory_providers())
        self.assertEqual(("vol",), tuple(spec.name for spec in topology.storages))
        self.assertEqual(os.path.dirname(os.path.abspath(path)), topology.base_dir)

    def test_function(self) -> None:
        """A function that returns one, or only a device."""
        topology = self.load("from dst.cluster.topology import *\ndef topology(): return memory('1M', name='m')\n")
        self.assertEqual(["m"], [spec.name for spec in topology.nodes])

    def test_check(self) -> None:
        """C{check} reads scripts too; a mistake in the topology says where in it."""
        path = self.write("from dst.cluster.topology import *\ntopology = mirror('vol', node('flie:a'))\n", "t.py")
        self.assertEqual(
            [Problem(path, None, "nodes.a.uri: no plugin makes nodes of flie:; did you mean 'file'?")],
            check(path, memory_providers()),
        )

    def test_mistakes_in_the_script(self) -> None:
        """What the script itself does wrong is said with its line in the script."""
        for text, line, words in [
            ("x = 1\n", None, "the script has no topology; expected topology = ..."),
            ("x = 1\ntopology = 3\n", None, "3 is no topology"),
            ("\n\nraise RuntimeError('no')\n", 3, "RuntimeError: no"),
            ("\ndef topology():\n    return nothing\n", 3, "NameError: name 'nothing'"),
            ("\n\nx = = 1\n", 3, "SyntaxError"),
            ("raise SystemExit(3)\n", 1, "SystemExit: 3"),
            (
                "from dst.cluster.topology import *\n\ntopology = mirror('v', 'a')\n",
                3,
                "storage 'v' has the member 'a'",
            ),
        ]:
            found = self.said(text, "t.py")
            self.assertEqual([line], [each for each, _ in found], text)
            self.assertIn(words, found[0][1])
