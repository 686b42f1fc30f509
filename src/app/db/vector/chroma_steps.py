"""What is done in Chroma, as steps: a directory takes them at once, in its thread, a server one request after another.

A step is a call of Chroma's client. Written once as a generator of calls, an operation is one job of the thread that
owns a directory, so that nobody sees half of it; over HTTP each call is awaited, within its own time.
"""

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from ...connections._server import import_package

chroma_errors = import_package("chromadb.errors", "chromadb", "chromadb")

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Call:
    function: Callable[..., Any]
    options: dict[str, Any]
    write: bool

    def __call__(self) -> Any:
        return self.function(**self.options)


Steps: TypeAlias = Generator[Call, Any, R]


def read(function: Callable[..., Any], **options: Any) -> Call:
    return Call(function, options, write=False)


def write(function: Callable[..., Any], **options: Any) -> Call:
    return Call(function, options, write=True)


def take(steps: Steps[R]) -> R:
    """At once, in a thread that has no loop."""
    taking = take_each(steps, _at_once)
    try:
        taking.send(None)
    except StopIteration as end:
        result: R = end.value
        return result
    raise AssertionError("nothing that is asked at once waits")


async def _at_once(call: Call) -> Any:
    return call()


async def take_each(steps: Steps[R], ask: Callable[[Call], Awaitable[Any]]) -> R:
    answer: Any = None
    error: Exception | None = None
    while True:
        try:
            call = steps.send(answer) if error is None else steps.throw(error)
        except StopIteration as end:
            result: R = end.value
            return result
        answer, error = None, None
        try:
            answer = await ask(call)
        except chroma_errors.ChromaError as raised:  # the steps get it, and raise what is not theirs
            error = raised
