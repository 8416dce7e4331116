"""Tests of L{dst.cluster.document}."""

from __future__ import annotations

import tomllib

import tomlkit
from attrs import NOTHING, fields
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dst.administration import Severity
from dst.cluster.document import etag_of, read_document, to_document, unwritable
from dst.cluster.hook_specs import HookSpec
from dst.cluster.listening import ListenerSpec
from dst.cluster.topology import Daemon, ExportSpec, NodeSpec, SliceSpec, StorageSpec, Topology
from dst.identity import Access, AccessRule, access_rule_from_plain

names = st.text("abcdefghij0123456789._-", min_size=1, max_size=8).filter(lambda name: name not in (".", ".."))
words = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
plain = st.one_of(
    words, st.booleans(), st.integers(-(1 << 40), 1 << 40), st.floats(allow_nan=False, allow_infinity=False)
)
option_names = st.sampled_from(["size", "cost", "quorum", "on_loss", "deadline_s"])
options = st.dictionaries(option_names, plain, max_size=3)
listeners = st.builds(ListenerSpec, words, st.sampled_from([None, "off", "optional", "required"]))
rules = st.builds(
    access_rule_from_plain,
    st.fixed_dictionaries(
        {"access": st.sampled_from(["read", "write"])},
        optional={"identity": names, "network": st.sampled_from(["10.0.0.0/8", "::1/128"])},
    ),
)
hooks = st.builds(
    HookSpec,
    on=st.lists(st.sampled_from(["health", "daemon"]), min_size=1, unique=True).map(tuple),
    command=st.lists(words, min_size=1, max_size=3).map(lambda parts: ("/bin/tell", *parts)),
    severity=st.sampled_from(Severity),
    timeout_s=st.sampled_from([1.0, 2.5]),
) | st.builds(HookSpec, url=st.just("https://hooks.example/x"), header_file=st.sampled_from(["", "headers"]))
daemons = st.builds(
    Daemon,
    state_dir=st.none() | words,
    admin=words,
    name=st.none() | words,
    security_dir=st.none() | words,
    open_to_the_network=st.booleans(),
    admin_tls=st.sampled_from([None, "off", "required"]),
    operators=st.lists(names, max_size=3).map(tuple),
)


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    """Any topology that has the right shape; whether it could run is another matter."""
    devices = draw(st.lists(names, unique=True, max_size=8))
    count = draw(st.integers(0, len(devices)))
    nodes, slices = devices[:count], devices[count:]
    sizes = st.integers(0, 1 << 50)
    return Topology(
        tuple(NodeSpec(name, draw(words), draw(options)) for name in nodes),
        tuple(SliceSpec(name, draw(words), draw(sizes), draw(sizes)) for name in slices),
        tuple(
            StorageSpec(name, draw(words), tuple(draw(st.lists(words))), draw(options), tuple(draw(st.lists(words))))
            for name in draw(st.lists(names, unique=True, max_size=3))
        ),
        tuple(
            ExportSpec(name, draw(words), draw(st.booleans()), draw(st.none() | st.lists(rules).map(tuple)))
            for name in draw(st.lists(names, unique=True, max_size=3))
        ),
        draw(st.dictionaries(st.sampled_from(["dst", "nbd"]), st.lists(listeners, min_size=1).map(tuple))),
        draw(daemons),
        hooks=tuple(draw(st.lists(hooks, max_size=2))),
    )


class RoundTripTests(SynchronousTestCase):
    """A topology says the same after it was written down and read."""

    @given(topologies())
    @settings(deadline=None, max_examples=150)
    def test_same_topology(self, topology: Topology) -> None:
        """What is read of the document is the topology, and nothing is wrong with its shape."""
        read = read_document(to_document(topology))
        self.assertEqual([], read.findings)
        self.assertEqual(topology, read.topology)

    @given(topologies())
    @settings(deadline=None, max_examples=50)
    def test_through_toml(self, topology: Topology) -> None:
        """So is what is read of the TOML that says the document."""
        document = to_document(topology)
        self.assertEqual([], list(unwritable(document)))
        self.assertEqual(topology, read_document(tomllib.loads(tomlkit.dumps(document))).topology)

    def test_every_field(self) -> None:
        """Nothing that a specification can say is left out of the document."""
        full = [
            NodeSpec("n", "file:a", {"size": 1}),
            SliceSpec("s", "n", 1, 2),
            StorageSpec("v", "mirror", ("n",), {"quorum": "all"}, ("w",)),
            ExportSpec("e", "v", True, (AccessRule(Access.READ),)),
            Daemon("state", "tcp:1", "me", "keys", True, "required", ("alice",)),
        ]
        for spec in full:
            for each in fields(type(spec)):
                with self.subTest(spec=type(spec).__name__, field=each.name):
                    default = each.default if each.default is not NOTHING else None
                    self.assertNotEqual(default, getattr(spec, each.name))
        node, part, storage, export, daemon = full
        listeners = {"nbd": (ListenerSpec("tcp:2", "off"),)}
        hooks = (HookSpec(command=("/bin/tell",)),)
        topology = Topology((node,), (part,), (storage,), (export,), listeners, daemon, hooks=hooks)  # type: ignore[arg-type]
        for each in fields(Topology):
            if each.name != "base_dir":  # where it was written
                self.assertTrue(getattr(topology, each.name), f"{each.name} is not tested here")
        self.assertEqual(topology, read_document(to_document(topology)).topology)


class EtagTests(SynchronousTestCase):
    """What tells one document from another."""

    def test_order(self) -> None:
        """The order of keys means nothing, that of lists does."""
        self.assertEqual(etag_of({"a": 1, "b": [1, 2]}), etag_of({"b": [1, 2], "a": 1}))
        self.assertNotEqual(etag_of({"b": [1, 2]}), etag_of({"b": [2, 1]}))
        self.assertNotEqual(etag_of({"a": 1}), etag_of({"a": "1"}))


class UnwritableTests(SynchronousTestCase):
    """JSON has values that TOML has not."""

    def test_each(self) -> None:
        """Each is named with its place."""
        for value in (None, float("nan"), float("inf"), 1 << 63, "\ud800"):
            (finding,) = unwritable({"nodes": {"a": {"x": [value]}}})
            self.assertEqual(("nodes", "a", "x", 0), finding.place)
        (finding,) = unwritable({"nodes": {"\ud800": 1}})
        self.assertEqual(("nodes",), finding.place)

    def test_fine(self) -> None:
        """What TOML has is not named."""
        self.assertEqual([], list(unwritable({"a": {"b": [1, 0.5, True, "x", {"c": -(1 << 63)}]}})))
