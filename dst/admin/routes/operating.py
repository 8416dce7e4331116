"""
What is asked of storages, and how it goes on.

An operation that takes long answers in one of two ways.  Who sends C{Prefer: respond-async} gets C{202} after two
seconds, or as many as C{wait=} names, with the address of the operation; L{operation} tells how it is.  Who does
not is answered when it is done, or told after a minute that it goes on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import unquote

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from dst.admin.answers import NotYet, Refused, with_deadline
from dst.admin.routes.calls import API, Call, Parameter, Reply
from dst.admin.routes.shapes import Done, OneOperation
from dst.admin.schema import API_VERSION, OPERATIONS, operation_arguments
from dst.administration import OperationState, OperationStatus
from dst.asking import Asking, asking
from dst.errors import InvalidRequest, LimitReached, NotFound

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

_log = Logger()

OPERATION_S_MAX = 60.0
"""For so long is waited with the answer where nobody said that they would rather look again."""

ASYNC_S = 2.0
"""For so long where somebody did: most operations are done by then."""

LOOK_S = 0.2
"""How often is looked whether an operation has ended that somebody waits for."""

OPERATIONS_MAX = 16
"""Operations that are waited for at a time: one person rarely does two."""

WAIT = Parameter("wait", int, "wait for so many seconds for its end", 0, 0, 30)

T = TypeVar("T")


def operation_path(id: str) -> str:
    """Where an operation is."""
    return f"/v1/operations/{id}"


def ask_as(act: Callable[[], Deferred[T]], asked: Asking) -> Deferred[T]:
    """The Deferred of C{act}, which finds in L{dst.asking} who asks, and leaves there what it has become."""
    context = copy_context()
    context.run(asking.set, asked)
    return context.run(act)


async def operate(api: API, call: Call) -> Reply:
    """One operation on one storage."""
    operation = call.route.name
    try:
        arguments = operation_arguments(operation, call.body())
    except InvalidRequest as error:
        raise Refused.because(400, error, "docs/rest.rst describes what each operation takes") from error
    if api.operating >= OPERATIONS_MAX:
        raise LimitReached(f"{api.operating} operations are waited for already, and no more are begun")
    storage = call.names["name"]
    _log.info("{operation} of {storage}: {arguments}", operation=operation, storage=storage, arguments=arguments)
    act = cast("Callable[..., Deferred[None]]", getattr(api.admin, operation.replace("-", "_")))
    patience = preferred_wait_s(call)
    asked = Asking(call.asker.words)
    begun = ask_as(lambda: act(storage, **arguments), asked)
    api.operating += 1

    def ended(result: Any) -> Any:
        api.operating -= 1
        return result

    begun.addBoth(ended)
    seconds = OPERATION_S_MAX if patience is None else patience
    try:
        await with_deadline(begun, api.clock, seconds, f"{operation} of {storage!r}")
    except NotYet:
        if patience is None or asked.operation is None:
            raise
        status = await api.look(api.admin.operation(asked.operation), "the operation")
        return begun_reply(api, status)
    return Reply(Done(API_VERSION, operation))


def begun_reply(api: API, status: OperationStatus) -> Reply:
    """C{202}, and where to look."""
    headers = (("Location", operation_path(status.id)), ("Preference-Applied", "respond-async"))
    return Reply(OneOperation(API_VERSION, api.now(), status), 202, headers)


_OPERATION_PATH = re.compile(r"/v1/storages/[^/]+/([^/]+)")


def unknown_operation(path: str) -> NotFound | None:
    """What is said of an address that nothing was found at, if it looks like that of an operation."""
    found = _OPERATION_PATH.fullmatch(path)
    if found is None:
        return None
    return NotFound(f"there is no operation {unquote(found[1])[:60]!r}; there are {', '.join(OPERATIONS)}")


_WAIT = re.compile(r"wait\s*=\s*\"?(\d{1,4})\"?")


def preferred_wait_s(call: Call) -> float | None:
    """For how long to wait before C{202}, by RFC 7240; C{None} where no such answer is wanted."""
    preferences = [each.strip().lower() for each in (call.header("prefer") or "").split(",")]
    if "respond-async" not in preferences:
        return None
    for preference in preferences:
        said = _WAIT.fullmatch(preference)
        if said is not None:
            return min(float(said[1]), OPERATION_S_MAX)
    return ASYNC_S


async def operation(api: API, call: Call) -> Reply:
    """One thing that was asked for."""
    end = api.clock.seconds() + call.query["wait"]
    while True:
        status = await api.look(api.admin.operation(call.names["id"]), "the operation")
        left = end - api.clock.seconds()
        if status.state is not OperationState.RUNNING or left <= 0:
            return Reply(OneOperation(API_VERSION, api.now(), status))
        await _sleep(api.clock, min(LOOK_S, left))


def _sleep(clock: IReactorTime, seconds: float) -> Deferred[None]:
    waited: Deferred[None] = Deferred(lambda _: timer.cancel())
    timer = clock.callLater(seconds, waited.callback, None)
    return waited
