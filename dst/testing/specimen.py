# mypy: disallow-untyped-calls=False
# (trial's assertions have no annotations)
"""
What every conformance suite stands on: the thing under test, waiting for it, and who has been tested.

A suite is made for one provider by a factory and subclassed where it shall
run::

    def make(case):
        clock = Clock()
        return Specimen(MemoryDevice(clock, "m", 1 << 20), clock=clock)

    class MemoryDeviceTests(node_suite(MemoryDevice, make)):
        \"\"\"L{MemoryDevice} is a node.\"\"\"

A specimen with a C{clock} is driven by it: while the suite waits for a
Deferred it advances the clock, and the tests are synchronous.  Without one, the suite
waits in the real reactor.

C{conformance_tests} remembers which classes were tested by what, so that a test can find the
provider that escaped.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar

from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementedBy

from dst.errors import DSTError
from dst.interfaces import INode

__all__ = ["WAIT_STEPS_MAX", "Maker", "Specimen", "SuiteCase", "conformance_tests", "optional_suites", "suite_class"]

WAIT_STEPS_MAX = 20_000
"""How often a clock is advanced before a Deferred counts as one that never fires."""

T = TypeVar("T")

conformance_tests: dict[type, list[type[SynchronousTestCase]]] = {}
"""Provider -> the test cases that hold it to its interface; filled when a suite is subclassed."""


optional_suites: dict[Any, type[SuiteCase]] = {}
"""Interface -> the suite that is added for a provider that implements it besides; filled by the suites."""


@define
class Specimen:
    """
    One thing under test.

    @ivar node: not open yet (a suite of bare block devices is given one that is ready).
    @ivar clock: what drives it; C{None} for the real reactor.
    @ivar step_s: how far the clock goes at a time while the suite waits.
    @ivar reopen: makes another node of the same media, as a restarted process would; called when the
        first is closed.  C{None} where nothing survives that.
    @ivar remembers: the incarnation survives with the media.  Off only for media that has no place for it and
        counts as having lost something each time.
    @ivar tells_holes: what was written with C{no_hole} must not be told as a hole.  Off only for
        media that cannot tell (a foreign server).
    @ivar fail_flush: has the next flush fail, and what was not flushed be lost; for L{dst.testing.FailedFlushSuite}.
    """

    node: INode
    clock: Clock | None = None
    step_s: float = 0.01
    reopen: Callable[[], INode] | None = None
    remembers: bool = True
    tells_holes: bool = True
    fail_flush: Callable[[], None] | None = None


Maker: TypeAlias = Callable[[Any], Specimen | Awaitable[Specimen]]
"""Given the running test case (for C{mktemp} and C{addCleanup}); may be a coroutine function."""


class SuiteCase(TestCase):
    """What the tests of every suite use."""

    provider: type
    make: Maker
    make_read_only: Maker | None = None

    specimen: Specimen

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        provider = getattr(cls, "provider", None)
        if provider is not None and cls.__module__.partition(".")[0] != "dst":
            conformance_tests.setdefault(provider, []).append(cls)

    @property
    def node(self) -> INode:
        """The node under test."""
        return self.specimen.node

    async def build(self, make: Maker | None = None) -> INode:
        """A new node that is not open, closed when the test ends."""
        made = (make or type(self).make)(self)
        self.specimen = made if isinstance(made, Specimen) else await made
        self.addCleanup(self._close, self.specimen, self.specimen.node)
        return self.specimen.node

    async def build_open(self, make: Maker | None = None) -> INode:
        """A new node that is ready."""
        node = await self.build(make)
        if INode.providedBy(node):
            await self.wait(node.open())
        return node

    async def reopen(self) -> INode:
        """The media in the hands of a new process."""
        assert self.specimen.reopen is not None
        await self.wait(self.specimen.node.close())
        node = self.specimen.node = self.specimen.reopen()
        self.addCleanup(self._close, self.specimen, node)
        await self.wait(node.open())
        return node

    def _close(self, specimen: Specimen, node: INode) -> Deferred[None]:
        async def close() -> None:
            self.specimen = specimen  # its clock drives it, also when the test has made another one since
            if INode.providedBy(node):
                await self.wait(node.close())

        return Deferred.fromCoroutine(close())

    async def wait(self, deferred: Deferred[T]) -> T:
        """The result of C{deferred}, which fires while time goes on."""
        clock = self.specimen.clock
        if clock is not None:
            fired = []

            def note(result: T) -> T:
                fired.append(True)
                return result

            deferred.addBoth(note)
            for _ in range(WAIT_STEPS_MAX):
                if fired:
                    break
                clock.advance(self.specimen.step_s)
            else:
                self.fail(f"a Deferred did not fire in {WAIT_STEPS_MAX * self.specimen.step_s} s of virtual time")
        return await deferred

    async def wait_all(self, deferreds: list[Deferred[T]]) -> list[T]:
        """The results of operations that are in flight together."""
        return [await self.wait(deferred) for deferred in deferreds]

    async def turn(self) -> None:
        """Let one turn of the reactor pass."""
        if self.specimen.clock is not None:
            self.specimen.clock.advance(0)
            return
        from twisted.internet import reactor  # the real one, because the specimen has no clock

        later: Deferred[None] = Deferred()
        reactor.callLater(0, later.callback, None)
        await later

    def ask(self, operation: Callable[..., Deferred[T]], *args: Any, **kwargs: Any) -> Deferred[T]:
        """Call an operation; none may raise."""
        try:
            return operation(*args, **kwargs)
        except Exception as error:
            self.fail(f"{operation.__name__} raised {error!r}; an error has to fail its Deferred")

    async def assert_fails(
        self, expected: type[DSTError], operation: Callable[..., Deferred[Any]], *args: Any, **kwargs: Any
    ) -> DSTError:
        """The operation fails its Deferred with C{expected}, which says something."""
        deferred = self.ask(operation, *args, **kwargs)
        try:
            result = await self.wait(deferred)
        except expected as error:
            self.assertNotEqual("", error.message)
            return error
        what = f"{operation.__name__}{args!r:.100}{kwargs or ''}"
        raise self.failureException(f"{what} gave {result!r:.100}; expected {expected.__name__}")


def suite_class(
    base: type[SuiteCase],
    provider: type,
    make: Maker,
    make_read_only: Maker | None = None,
    read_only_base: type[SuiteCase] | None = None,
    **attributes: object,
) -> Any:
    """A test case of C{base} for C{provider}, to be subclassed in a test module."""
    namespace: dict[str, object] = {
        "provider": provider,
        "make": staticmethod(make),
        "__module__": base.__module__,
        "__doc__": f"L{{{provider.__name__}}} keeps the promises that are tested by L{{{base.__name__}}}.",
        **attributes,
    }
    bases: tuple[type, ...] = (base,)
    if make_read_only is not None and read_only_base is not None:
        namespace["make_read_only"] = staticmethod(make_read_only)
        bases = (base, read_only_base) if not issubclass(read_only_base, base) else (read_only_base,)
    provided = set(implementedBy(provider).flattened())
    bases += tuple(suite for interface, suite in optional_suites.items() if interface in provided)
    return type(f"{provider.__name__}{base.__name__}", bases, namespace)
