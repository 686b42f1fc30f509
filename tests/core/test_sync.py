"""The portal and its faces, without any store."""

import asyncio
import copy
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import pytest
from pydantic import BaseModel

from app.core.errors import ConfigurationError
from app.core.sync import Portal, Sync

variable: ContextVar[str] = ContextVar("variable", default="")


class Closing:
    def __init__(self) -> None:
        self.closed_on: asyncio.AbstractEventLoop | None = None

    async def close(self) -> None:
        self.closed_on = asyncio.get_running_loop()


@pytest.fixture
def closing() -> Closing:
    return Closing()


@pytest.fixture
def portal(closing: Closing, leaves_nothing: None) -> Iterator[Portal]:  # noqa: ARG001 - the thread has to end
    portal = Portal("test portal", closing.close)
    yield portal
    portal.close()


class Note(BaseModel):
    text: str

    async def sent(self) -> bool:
        return True


class Twins:
    def embed(self) -> int:
        return threading.get_ident()

    async def aembed(self) -> int:
        return threading.get_ident()


class Embedder(Twins):
    async def measure(self) -> int:
        return 3


class Unavailable:
    async def __aenter__(self) -> None:
        raise ConnectionError

    async def __aexit__(self, *error: object) -> None:
        raise AssertionError


class Collection:
    def __call__(self) -> None:
        raise AssertionError("it is not to be called")

    async def count(self) -> int:
        return 7


class Thing:
    def __init__(self) -> None:
        self.events: list[Any] = []
        self.note = Note(text="x")
        self.collection = Collection()

    @property
    def loop(self) -> str:
        return type(asyncio.get_running_loop()).__name__

    def another(self) -> "Thing":
        asyncio.get_running_loop()
        return Thing()

    def twins(self) -> Twins:
        return Twins()

    def embedder(self) -> Embedder:
        return Embedder()

    async def add(self, *values: Any) -> int:
        await asyncio.sleep(0)
        self.events.extend(values)
        return len(self.events)

    async def context(self) -> str:
        return variable.get()

    async def same(self, other: Any) -> bool:
        return other is self

    async def wait(self) -> None:
        self.events.append("waits")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)
            self.events.append("cancelled")
            raise

    async def count(self, up_to: int) -> AsyncIterator[int]:
        try:
            async with asyncio.timeout(60):  # belongs to one task
                for number in range(up_to):
                    self.events.append(number)
                    yield number
                    await asyncio.sleep(0)
            raise ZeroDivisionError
        finally:
            self.events.append("ended")

    @asynccontextmanager
    async def borrowed(self, *, swallows: bool = False) -> AsyncIterator["Thing"]:
        token = variable.set("borrowed")
        try:
            async with asyncio.timeout(60):
                yield self
        except ZeroDivisionError:
            self.events.append("caught")
            if not swallows:
                raise
        finally:
            variable.reset(token)
            self.events.append("given back")

    def unavailable(self) -> "Unavailable":
        return Unavailable()


@pytest.fixture
def thing() -> Thing:
    return Thing()


@pytest.fixture
def face(thing: Thing, portal: Portal) -> Any:
    return Sync(thing, portal)


def test_calls_run_on_the_loop(face: Any, thing: Thing) -> None:
    assert face.add(1, 2) == 2
    assert thing.events == [1, 2]
    assert "EventLoop" in face.loop
    assert isinstance(face.another(), Sync)
    assert face.another().add(1) == 1
    assert face.same(face) is True
    assert face.collection.count() == 7
    assert copy.copy(face).add(3) == 3
    assert face.add.__name__ == "add"
    assert (face == face, face == thing, hash(face) == hash(face)) == (True, False, True)  # noqa: PLR0124
    assert "Thing" in repr(face)
    for name in ("nothing", "_private", "__len__"):
        with pytest.raises(AttributeError):
            getattr(face, name)


def test_the_context_of_the_caller_holds(face: Any) -> None:
    variable.set("mine")
    assert face.context() == "mine"


def test_data_and_what_has_both_faces_comes_as_it_is(face: Any, thing: Thing) -> None:
    assert face.note is thing.note
    assert type(face.twins()) is Twins
    embedder = face.embedder()
    assert (embedder.measure(), embedder.embed(), embedder.aembed()) == (3, threading.get_ident(), embedder.aembed())
    assert embedder.aembed() != threading.get_ident()


def test_an_async_generator_is_an_iterator(face: Any, thing: Thing) -> None:
    numbers = face.count(1500)
    assert [next(numbers) for _ in range(1200)] == list(range(1200))
    with pytest.raises(ZeroDivisionError):
        list(numbers)
    assert list(numbers) == []
    assert thing.events[-1] == "ended"


def test_an_iterator_reads_ahead_up_to_a_limit(face: Any, thing: Thing) -> None:
    numbers = face.count(100_000)
    assert next(numbers) == 0
    time.sleep(0.2)
    assert len(thing.events) <= 1100
    numbers.close()
    assert thing.events[-1] == "ended"
    assert list(numbers) == []


def test_an_iterator_that_is_dropped_ends_the_generator(face: Any, thing: Thing) -> None:
    for number in face.count(100_000):
        if number == 3:
            break
    until(lambda: thing.events[-1] == "ended")
    face.count(5).close()
    assert thing.events[-1] == "ended", "one that never began has nothing to end"


def test_a_context_is_entered_and_left_in_one_task(face: Any, thing: Thing) -> None:
    with face.borrowed() as borrowed:
        assert borrowed == face
        borrowed.add(1)
    assert thing.events == [1, "given back"]
    with pytest.raises(ZeroDivisionError), face.borrowed():
        raise ZeroDivisionError
    with face.borrowed(swallows=True):
        raise ZeroDivisionError
    assert thing.events[2:] == ["caught", "given back", "caught", "given back"]  # type: ignore[unreachable]
    with pytest.raises(ConnectionError), face.unavailable():
        pass
    with pytest.raises(KeyboardInterrupt), face.borrowed():
        raise KeyboardInterrupt
    assert face.add() == 7


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A test run in the background of a shell ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_cancels_the_call_and_nothing_else(face: Any, thing: Thing) -> None:
    interrupt = threading.Timer(0.2, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    interrupt.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        face.wait()
    assert time.monotonic() - started < 5
    assert thing.events == ["waits", "cancelled"], "it has ended when the interrupt goes on"
    assert face.add(1) == 3


def test_an_interrupt_on_the_loop_does_not_end_it(face: Any, portal: Portal) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        portal.call(interrupted)
    assert face.add(1) == 1


def test_closing_ends_what_others_wait_for(closing: Closing, face: Any, portal: Portal) -> None:
    outcomes: list[BaseException] = []

    def wait() -> None:
        try:
            face.wait()
        except ConfigurationError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: face.events.count("waits") == 3)
    face.borrowed().__enter__()
    events = face.events
    portal.close()
    for thread in threads:
        thread.join()
    assert [str(each)[:24] for each in outcomes] == ["this sync face is closed"] * 3
    assert events.count("cancelled") == 3
    assert "given back" in events
    assert closing.closed_on is not None
    with pytest.raises(ConfigurationError, match="closed"):
        face.add(1)


def test_closing_ends_generators_that_nobody_holds_on_to(face: Any, thing: Thing, portal: Portal) -> None:
    numbers = thing.count(3)
    assert portal.call(numbers.__anext__) == 0
    assert face.add() == 1
    portal.close()
    assert thing.events == [0, "ended"]


def test_it_refuses_to_block_a_loop(face: Any, portal: Portal) -> None:
    async def on_a_loop() -> None:
        face.add(1)

    with pytest.raises(ConfigurationError, match="to_thread"):
        asyncio.run(on_a_loop())
    with pytest.raises(ConfigurationError, match="to_thread"):
        portal.call(on_a_loop)

    with_loops = Portal("test portal", Closing().close, from_loops=True)

    async def blocking() -> Any:
        return with_loops.call(lambda: 5)

    assert asyncio.run(blocking()) == 5
    with pytest.raises(ConfigurationError, match="to_thread"):
        with_loops.call(blocking)
    with_loops.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_told(face: Any, portal: Portal) -> None:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            face.add(1)
        except ConfigurationError as error:
            portal.close()
            code = 0 if "forked" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.usefixtures("leaves_nothing")
def test_one_that_is_forgotten_closes_and_warns(closing: Closing) -> None:
    face: Any = Sync(Thing(), Portal("test portal", closing.close))
    numbers = face.count(10)
    assert next(numbers) == 0
    del face
    assert next(numbers) == 1, "what it gave out keeps it"
    kept = [numbers]
    del numbers
    with pytest.warns(ResourceWarning, match="test portal was forgotten"):
        forget(kept)
    until(lambda: closing.closed_on is not None and closing.closed_on.is_closed())


def test_forgetting_it_holds_up_no_exit() -> None:
    code = """
import asyncio
from app.core.sync import Portal

async def close():
    await asyncio.sleep(0.5)
    print("closed", flush=True)

portal = Portal("test portal", close)
print(portal.call(lambda: 5))
"""
    started = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-W", "always", "-c", code], check=True, capture_output=True, text=True, timeout=30
    )
    assert result.stdout.split() == ["5", "closed"]
    assert "ResourceWarning: test portal was forgotten" in result.stderr
    assert time.monotonic() - started < 10


def forget(kept: list[Any]) -> None:
    kept.clear()
    gc.collect()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
