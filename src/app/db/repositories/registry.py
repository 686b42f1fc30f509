"""Names of repositories. Registering says which connection types a repository was made for."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from ...core import current
from ...core.registry import Registry

if TYPE_CHECKING:
    from .base import Repository

RepositoryT = TypeVar("RepositoryT", bound="type[Repository[Any]]")

_classes: "Registry[type[Repository[Any]]]" = Registry(
    "repository",
    {
        "user": ".db.repositories.user_repository:UserRepository",
        "signup_session": ".db.repositories.signup_session_repository:SignupSessionRepository",
    },
    entry_point_group="manystore.repositories",
)

DEFAULT_CONNECTIONS = ("mongodb", "postgres", "sqlite", "redis")
TABLE_CONNECTIONS = ("postgres", "sqlite")
"""For the classes that SQLAlchemy maps."""


class _Repositories(Protocol):
    def repository(self, name: str) -> "Repository[Any]": ...


class RepositoryRegistry:
    """Process-wide names → classes. Instances belong to a DataLayer."""

    @staticmethod
    def register(
        name: str, *, connections: tuple[str, ...] = DEFAULT_CONNECTIONS
    ) -> Callable[[RepositoryT], RepositoryT]:
        """Register a repository class; `connections` are the types it was made for, best first."""

        def decorate(repository: RepositoryT) -> RepositoryT:
            _classes.register(name, repository)
            repository.registered_name = name
            if connections is not DEFAULT_CONNECTIONS or repository.connections is not TABLE_CONNECTIONS:
                repository.connections = connections
            return repository

        return decorate

    @staticmethod
    def get(name: str) -> "Repository[Any]":
        """Return the current DataLayer's repository of that name."""
        return cast("_Repositories", current.layer()).repository(name)

    @staticmethod
    def get_class(name: str) -> "type[Repository[Any]]":
        return _classes.get(name)

    @staticmethod
    def classes_of(model: type[Any]) -> "list[type[Repository[Any]]]":
        """The registered classes of a model. Those that nobody has imported yet are, which needs no driver."""
        return [each for each in map(_classes.get, _classes.names()) if getattr(each, "model", None) is model]

    @staticmethod
    def names() -> tuple[str, ...]:
        return _classes.names()
