"""Which DataLayer a call means that names none: the slot for it lives here so that no layer imports upward.

The order is: the one entered in this context, else the one open layer of the process (a context variable that a
server's lifespan sets is not seen by its handlers), else a default that is built on first use. The default is for
programs that open none: what still runs when an application has closed its own would write to another store unnoticed.
"""

import threading
import weakref
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast

from .errors import ConfigurationError
from .registry import import_target

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")

_DEFAULT_BUILDER = ".db.data_layer:build_default"


class Layer(Protocol):
    """What the slot needs of a DataLayer. Each factory finds its own instance on it by attribute."""

    @property
    def closed(self) -> bool: ...


_entered: ContextVar[Layer | None] = ContextVar("manystore_layer", default=None)
_open: weakref.WeakSet[Layer] = weakref.WeakSet()
_default: Layer | None = None
_had_own = False
"""Whether a layer that the application opened has been closed."""
_lock = threading.RLock()


def enter(layer: Layer) -> Token[Layer | None]:
    return _entered.set(layer)


def leave(token: Token[Layer | None]) -> None:
    """Undo `enter`; a token of another context (a fixture torn down elsewhere) just empties the slot."""
    try:
        _entered.reset(token)
    except ValueError:
        _entered.set(None)


def opened(layer: Layer) -> None:
    with _lock:
        _open.add(layer)


def closed(layer: Layer) -> None:
    global _default, _had_own  # noqa: PLW0603 - the slot is process-wide by design
    with _lock:
        _open.discard(layer)
        if _default is layer:
            _default = None
        else:
            _had_own = True


def layer() -> Layer:
    """Return the layer that is meant here.

    ConfigurationError when several are open and none is in context, and when the application has closed its own.
    """
    global _default  # noqa: PLW0603 - the slot is process-wide by design
    entered = _entered.get()
    if entered is not None and not entered.closed:
        return entered
    with _lock:
        candidates = [layer for layer in _open if not layer.closed]
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            raise ConfigurationError(
                f"{len(candidates)} DataLayers are open and none is entered here: "
                "use `async with data:`, or call the method on the layer that is meant"
            )
        if _default is None or _default.closed:
            if _had_own:
                raise ConfigurationError(
                    "the DataLayer that this process had open is closed: let what uses it end before it is closed, or "
                    "open a new one with DataLayer.from_config(...)"
                )
            _default = cast("Callable[[], Layer]", import_target(_DEFAULT_BUILDER))()
        return _default


class on_current(Generic[S, P, R]):  # noqa: N801 - used as a decorator, like `classmethod`
    """A method that, called on the class, acts on the instance which belongs to the current DataLayer.

    The class names the layer's attribute that holds its instance in `_layer_attribute`.
    """

    def __init__(self, method: Callable[Concatenate[S, P], R]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    def __get__(self, instance: S | None, owner: type[S]) -> Callable[P, R]:
        if instance is None:
            instance = getattr(layer(), cast("Any", owner)._layer_attribute)  # noqa: SLF001 - part of this protocol
        return cast("Callable[P, R]", self._method.__get__(instance, owner))
