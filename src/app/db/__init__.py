"""The data layer. Names are loaded on first use: importing this package loads no driver."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..core.actor import acting_as
    from .backends.base import Index
    from .cache.policy import CachePolicy
    from .data_layer import DataLayer
    from .models.base import Attributed, Entity, PyObjectId, SoftDeletable, Timestamped, Versioned
    from .models.user import User, UserInDB
    from .query.expressions import F
    from .repositories.audited import AuditedRepository
    from .repositories.base import Repository
    from .repositories.cached import cached
    from .repositories.pages import Page
    from .repositories.registry import RepositoryRegistry

_HOMES = {
    "Attributed": ".models.base",
    "AuditedRepository": ".repositories.audited",
    "CachePolicy": ".cache.policy",
    "DataLayer": ".data_layer",
    "Entity": ".models.base",
    "F": ".query.expressions",
    "Index": ".backends.base",
    "Page": ".repositories.pages",
    "PyObjectId": ".models.base",
    "Repository": ".repositories.base",
    "RepositoryRegistry": ".repositories.registry",
    "SoftDeletable": ".models.base",
    "Timestamped": ".models.base",
    "User": ".models.user",
    "UserInDB": ".models.user",
    "Versioned": ".models.base",
    "acting_as": "..core.actor",
    "cached": ".repositories.cached",
}

__all__ = [
    "Attributed",
    "AuditedRepository",
    "CachePolicy",
    "DataLayer",
    "Entity",
    "F",
    "Index",
    "Page",
    "PyObjectId",
    "Repository",
    "RepositoryRegistry",
    "SoftDeletable",
    "Timestamped",
    "User",
    "UserInDB",
    "Versioned",
    "acting_as",
    "cached",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - on use only

    value = getattr(import_module(_HOMES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
