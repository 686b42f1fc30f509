"""Names to recipes: a class or function, registered by decorator, by import string or by an installed entry point."""

import importlib
import threading
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Generic, TypeVar, cast, overload

from .errors import ConfigurationError, MissingDependencyError, NotRegisteredError

T = TypeVar("T")

EXTRAS = {"psycopg": ("psycopg", "postgres"), "pymongo": ("pymongo", "mongodb"), "redis": ("redis", "redis")}
"""A driver → its package, and the extra that brings it."""

# The package may be installed as `app`, be imported as `src.app`, or be copied under any other name.
ROOT_PACKAGE = __name__.rpartition(".core.")[0]


def import_target(target: str) -> object:
    """Import ``package.module:attribute``. A leading dot counts from this package, whatever it is called."""
    module_name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(module_name, ROOT_PACKAGE if module_name.startswith(".") else None)
    except ModuleNotFoundError as error:
        found = EXTRAS.get((error.name or "").partition(".")[0])
        if found is None:
            raise
        raise MissingDependencyError.for_extra(*found) from error
    return getattr(module, attribute)


class Registry(Generic[T]):
    """A process-wide table of recipes. It never holds a live object.

    An import string or entry point is imported when its name is first asked for. A second registration of a name is
    refused with both places in the message, except where it is the same object's own (a module that is reloaded, or
    the decorator that runs when the import string is resolved).
    """

    def __init__(self, kind: str, builtins: Mapping[str, str] | None = None, *, entry_point_group: str = "") -> None:
        self._kind = kind
        self._group = entry_point_group
        self._targets: dict[str, T | str] = {}
        self._lock = threading.RLock()
        self._entry_points_read = not entry_point_group
        for name, target in (builtins or {}).items():
            self._add(name, target)

    @overload
    def register(self, name: str) -> Callable[[T], T]: ...
    @overload
    def register(self, name: str, target: str) -> str: ...
    @overload
    def register(self, name: str, target: T) -> T: ...
    def register(self, name: str, target: T | str | None = None) -> Callable[[T], T] | T | str:
        """Register a recipe, or an import string of one; without a target, return a decorator that does it."""
        if target is not None:
            self._add(name, target)
            return target

        def decorate(recipe: T) -> T:
            self._add(name, recipe)
            return recipe

        return decorate

    def get(self, name: str) -> T:
        """Return the recipe, imported if need be; NotRegisteredError lists the names there are."""
        key = str(name)
        target = self._targets.get(key)
        if target is None:
            self._read_entry_points()
            target = self._targets.get(key)
        if target is None:
            raise NotRegisteredError.for_name(self._kind, key, self._targets)
        if not isinstance(target, str):
            return target
        recipe = cast("T", import_target(target))
        with self._lock:
            self._targets[key] = recipe
        return recipe

    def names(self) -> tuple[str, ...]:
        self._read_entry_points()
        return tuple(sorted(self._targets))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and str(name) in self.names()

    def _add(self, name: str, target: T | str) -> None:
        key = str(name)
        with self._lock:
            present = self._targets.get(key)
            if present is not None and _place(present) != _place(target):
                raise ConfigurationError(
                    f"{self._kind} {key!r} is registered twice: by {_place(present)} and by {_place(target)}"
                )
            if present is None or not isinstance(target, str):
                self._targets[key] = target

    def _read_entry_points(self) -> None:
        with self._lock:
            if not self._entry_points_read:
                for point in entry_points(group=self._group):
                    self._add(point.name, point.value)
                self._entry_points_read = True


def _place(target: object) -> str:
    """Where a recipe comes from, as ``module:qualname``, the same for an object and for its import string."""
    if isinstance(target, str):
        return f"{ROOT_PACKAGE}{target}" if target.startswith(".") else target
    return f"{getattr(target, '__module__', '?')}:{getattr(target, '__qualname__', repr(target))}"
