"""The same names without `await`: a face of any object with async methods, for code that has no event loop."""

import functools
import inspect
import weakref
from collections.abc import Iterator
from types import AsyncGeneratorType, TracebackType
from typing import Any, Protocol, Self, cast

from pydantic import BaseModel

from .. import current
from .bridge import Held, SyncIterator
from .portal import Portal


class Sync:
    """Stands for an object, whose methods run on the portal's loop and are waited for.

    What comes back with async methods has such a face too; an async generator is an iterator, and what is used with
    `async with` is used with `with`. Everything else comes back as it is. A method that has an async twin
    (`embed_query` beside `aembed_query`) is synchronous already, and runs in the thread that calls it.
    """

    __slots__ = ("_held", "_iterator", "_portal", "_target")

    def __init__(self, target: Any, portal: Portal) -> None:
        self._target = target
        self._portal = portal
        self._held: list[Held] = []
        self._iterator: SyncIterator | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # also asked of one that is not made yet, by copy and pickle
            raise AttributeError(f"{name} has no sync face")
        target = self._target
        kind = type(target)
        if isinstance(_static(kind, name), property):  # one may ask for the running loop
            return self._face(self._portal.call(getattr, target, name))
        value = getattr(target, name)
        # What is called only to say that it cannot be (pymongo's collections) has a face first.
        if _has_async_face_only(type(value)) or not callable(value) or isinstance(value, type):
            return self._face(value)
        is_here = inspect.iscoroutinefunction(_static(kind, f"a{name}"))

        @functools.wraps(value)
        def call(*args: Any, **options: Any) -> Any:
            given = [_bare(each) for each in args]
            named = {key: _bare(each) for key, each in options.items()}
            return self._face(value(*given, **named) if is_here else self._portal.call(value, *given, **named))

        return call

    def __getitem__(self, key: Any) -> Any:
        return self._face(self._portal.call(self._target.__getitem__, key))

    def __enter__(self) -> Any:
        held = Held(self._target)
        entered = self._portal.call(held.enter)
        self._held.append(held)
        return self._face(entered)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        return bool(self._portal.call(self._held.pop().leave, exc))

    def __iter__(self) -> Iterator[Any]:
        return SyncIterator(self._portal, aiter(self._target), self._face)

    def __next__(self) -> Any:
        self._iterator = self._iterator or cast("SyncIterator", iter(self))
        return next(self._iterator)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sync) and other._target is self._target

    def __hash__(self) -> int:
        return hash(id(self._target))

    def __dir__(self) -> list[str]:
        return [name for name in dir(self._target) if not name.startswith("_")]

    def __repr__(self) -> str:
        return f"<sync {self._target!r}>"

    def _face(self, value: Any) -> Any:
        if isinstance(value, AsyncGeneratorType):
            return SyncIterator(self._portal, value, self._face)
        return Sync(value, self._portal) if _has_async_face_only(type(value)) else value


class _Closable(Protocol):
    async def close(self) -> None: ...


class _Layer(_Closable, current.Layer, Protocol):
    async def start(self) -> None: ...


class SyncOwner(Sync):
    """The face that the others come from: leaving it, or `close`, closes what it is of and ends the thread."""

    __slots__ = ()

    def __init__(self, target: _Closable) -> None:
        super().__init__(target, Portal("manystore sync", target.close))

    @property
    def closed(self) -> bool:
        return self._portal.closed

    def close(self) -> None:
        """Close everything that was opened, and end the thread; idempotent."""
        self._portal.close()

    def __enter__(self) -> Self:
        self._portal.call(lambda: None)  # where it may not be used, the error comes here
        return self

    def __exit__(  # type: ignore[override]  # this one swallows nothing
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class SyncLayer(SyncOwner):
    """The face of a DataLayer: `with DataLayer.from_config(…).sync() as data:`.

    Inside the `with`, calls of this thread that name no layer mean this one.
    """

    __slots__ = ("_token",)

    _target: _Layer

    def __init__(self, layer: _Layer) -> None:
        super().__init__(layer)
        self._token: Any = None

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self._portal.call(self._target.start)
        except BaseException:
            self.close()
            raise
        self._token = current.enter(self._target)
        return self

    def __exit__(  # type: ignore[override]  # nor does this one
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        current.leave(self._token)
        self.close()


_known: weakref.WeakKeyDictionary[type, bool] = weakref.WeakKeyDictionary()


def _has_async_face_only(kind: type) -> bool:
    """Whether something in it has to be awaited. Data has nothing, LangChain's objects have a twin for all of it."""
    found = _known.get(kind)
    if found is None:
        found = _known[kind] = not issubclass(kind, BaseModel | type) and (
            any(hasattr(kind, name) for name in ("__aenter__", "__aiter__", "__anext__"))
            or any(not hasattr(kind, name[1:]) or not name.startswith("a") for name in _async_methods(kind))
        )
    return found


def _async_methods(kind: type) -> Iterator[str]:
    for base in kind.__mro__:
        for name, value in vars(base).items():
            plain = value.__func__ if isinstance(value, classmethod | staticmethod) else value
            if not name.startswith("_") and (inspect.iscoroutinefunction(plain) or inspect.isasyncgenfunction(plain)):
                yield name


def _static(kind: type, name: str) -> Any:
    """What the class has under the name, without asking it (`on_current` would look for a layer)."""
    return next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)


def _bare(value: Any) -> Any:
    return value._target if isinstance(value, Sync) else value  # noqa: SLF001 - the same module
