"""Managers around what an application opened itself: a driver's client, pool or database."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

from .base import ConnectionManager

# By the package of the object's class, so that no driver is imported to look at what is not its own.
_MANAGERS: Final[Mapping[str, str]] = {
    "pymongo": "._mongodb_adopted:AdoptedMongoDB",
    "psycopg_pool": ".postgres:PostgresConnectionManager",
    "redis": ".redis:RedisConnectionManager",
}
_REFUSED: Final[Mapping[str, str]] = {
    "motor": "Motor has ended: pass a database of pymongo's AsyncMongoClient instead (client['app'])",
}


def adopted(given: object) -> ConnectionManager[Any] | None:
    """A manager that uses the object and never closes it, or None for what belongs to no driver that we know.

    TypeError for what a driver has and we cannot use, such as a synchronous client.
    """
    package = type(given).__module__.partition(".")[0]
    if package in _REFUSED:
        raise TypeError(_REFUSED[package])
    if package not in _MANAGERS:
        return None
    module, _, name = _MANAGERS[package].partition(":")
    around = getattr(getattr(import_module(module, __package__), name), "around", None)
    manager: ConnectionManager[Any] | None = None if around is None else around(given)
    return manager
