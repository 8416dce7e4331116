"""
A request as a handler sees it, and what a handler answers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import define, field, frozen

from dst.admin.answers import Refused, with_deadline
from dst.admin.metrics import Metrics
from dst.admin.schema import load_json
from dst.errors import InvalidRequest, LimitReached
from dst.identity import Role

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IReactorTime

    from dst.admin.feed import EventFeed
    from dst.admin.page_files import PageFile
    from dst.interfaces import IClusterAdmin

__all__ = [
    "ANSWER_S_MAX",
    "API",
    "Asker",
    "Body",
    "Call",
    "Handler",
    "Parameter",
    "Raw",
    "Reply",
    "Route",
    "Streaming",
    "header_of",
    "parse_query",
]

ANSWER_S_MAX = 10.0
"""What is only looked at never waits; if it does, the asker is told rather than left."""


def header_of(request: Any, name: str) -> str | None:
    """
    A header, C{None} if it was not sent; one that was sent several times is one list.

    Its bytes are not taken for UTF-8: whoever sends other ones is answered, not failed on.
    """
    values = request.requestHeaders.getRawHeaders(name.encode("ascii"))
    return None if values is None else b", ".join(values).decode("latin-1")


@define(eq=False)
class API:
    """
    What handlers answer from.

    @ivar now: seconds of the epoch, for people; nothing is decided by it.
    @ivar started_s: what the clock said when this began.
    @ivar live: when it was looked last whether everything can be used, and whether it can.
    @ivar operating: how many operations are waited for now.
    @ivar metrics: the same, as numbers.
    """

    admin: IClusterAdmin
    clock: IReactorTime
    now: Callable[[], float]
    feed: EventFeed
    page: dict[str, PageFile]
    started_s: float = 0.0
    live: tuple[float, bool] | None = field(default=None, init=False)
    operating: int = field(default=0, init=False)
    metrics: Metrics = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.metrics = Metrics(self.admin, self.clock)

    async def look(self, deferred: Deferred[Any], what: str) -> Any:
        """The result of what never waits."""
        return await with_deadline(deferred, self.clock, ANSWER_S_MAX, what)


@frozen
class Asker:
    """
    Who asks.

    @ivar words: for the log, and for who looks at what has been done.
    @ivar role: what they may do.
    """

    words: str
    role: Role


@frozen
class Call:
    """
    One request that is heard.

    @ivar names: what stood in the address for the words in braces, unquoted.
    @ivar query: what stood behind the question mark; parameters that were not given have their defaults.
    @ivar asker: who asks.
    @ivar check_again: for answers that take long: raises L{Refused} when who asks may not have this any more.
    """

    request: Any
    route: Route
    names: dict[str, str]
    query: dict[str, Any]
    asker: Asker
    check_again: Callable[[], object]

    def header(self, name: str) -> str | None:
        """A header, C{None} if it was not sent; one that was sent several times is one list."""
        return header_of(self.request, name)

    def body(self) -> bytes:
        """
        What was sent.

        @raise Refused: it is longer than the route allows.
        """
        limit = 0 if self.route.body is None else self.route.body.bytes_max
        content: bytes = self.request.content.read(limit + 1)
        if len(content) > limit:
            raise Refused.because(
                413, LimitReached(f"the body has more than the {limit} bytes allowed"), "send a shorter one"
            )
        return content

    def json_object(self) -> dict[str, Any]:
        """
        The JSON object that was sent.

        @raise Refused: it is none, or too long.
        """
        content = self.body()
        try:
            value = load_json(content)
            if not isinstance(value, dict):
                raise InvalidRequest("the body is JSON, but not an object")
        except InvalidRequest as error:
            raise Refused.because(400, error, "GET /v1/openapi.json describes what is expected") from error
        return value


@frozen
class Reply:
    """
    An answer in JSON.

    @ivar value: an instance of one of the L{dst.admin.routes.shapes}, or what JSON has already.
    """

    value: object
    http_status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


@frozen
class Raw:
    """An answer that is not JSON, or none at all (C{304})."""

    content: bytes
    content_type: str
    http_status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


@frozen
class Streaming:
    """
    An answer that the handler writes itself.

    @ivar ended: fires when it is complete, or its reader gone.
    """

    ended: Deferred[Any]


Handler: TypeAlias = Callable[[API, Call], "Awaitable[Reply | Raw | Streaming]"]


@frozen
class Parameter:
    """
    Something that can stand behind the question mark.

    @ivar kind: C{int} or C{str}.
    @ivar minimum: of a number; of a text, its characters.
    """

    name: str
    kind: type
    about: str
    default: Any = None
    minimum: int | None = None
    maximum: int | None = None


@frozen
class Body:
    """
    What a request carries.

    @ivar schema: JSON schema of it.
    @ivar example: a body that makes sense.
    """

    schema: dict[str, Any]
    example: Any
    bytes_max: int


@frozen
class Route:
    """
    One address with one method: the one description of it there is.

    @ivar name: of the operation, unique; C{operationId} in the OpenAPI document.
    @ivar path: with names in braces.
    @ivar about: one sentence.
    @ivar role: who may ask; C{None}: anybody, without saying who they are.
    @ivar shapes: what the answers are, by HTTP status; C{None} where there is no JSON.
    @ivar errors: HTTP statuses of errors besides those that any request may be answered with.
    @ivar tag: the group it is shown in.
    @ivar listed: whether the OpenAPI document has it.
    @ivar content_type: of an answer that is not JSON.
    @ivar validates: answers have an C{ETag}, and C{If-None-Match} is heard.
    @ivar locks: C{If-Match} has to be sent.
    """

    name: str
    method: str
    path: str
    about: str
    role: Role | None
    handler: Handler
    shapes: dict[int, type | None]
    tag: str
    errors: tuple[int, ...] = ()
    query: tuple[Parameter, ...] = ()
    body: Body | None = None
    details: str = ""
    listed: bool = True
    content_type: str = "application/json"
    validates: bool = False
    locks: bool = False

    @property
    def rule(self) -> str:
        """The path as the router takes it."""
        return self.path.replace("{", "<").replace("}", ">")


def parse_query(route: Route, args: dict[bytes, list[bytes]]) -> dict[str, Any]:
    """
    The parameters of a request.

    One that the route does not have is refused, as one that is there twice: a misspelt C{after} must not become
    "everything".

    @raise Refused: with what was expected.
    """
    known = {parameter.name: parameter for parameter in route.query}
    found = {name: parameter.default for name, parameter in known.items()}
    for key, values in args.items():
        name = key.decode("utf-8", "replace")
        parameter = known.get(name)
        if parameter is None:
            expected = ", ".join(known) or "none"
            raise _bad_query(f"there is no parameter {name[:60]!r} here; there are: {expected}")
        if len(values) != 1:
            raise _bad_query(f"the parameter {name!r} is there {len(values)} times")
        found[name] = _parameter(parameter, values[0])
    return found


def _bad_query(sentence: str) -> Refused:
    return Refused.because(400, InvalidRequest(sentence), "GET /v1/openapi.json describes what is expected")


def _parameter(parameter: Parameter, value: bytes) -> object:
    text = value.decode("utf-8", "replace")
    if parameter.kind is str:
        return text[: parameter.maximum]
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
        raise _bad_query(f"{parameter.name} is {text[:60]!r}, expected a whole number")
    number = int(text)
    lowest, highest = parameter.minimum, parameter.maximum
    if (lowest is not None and number < lowest) or (highest is not None and number > highest):
        raise _bad_query(f"{parameter.name} is {number}, expected {lowest} to {highest}")
    return number
