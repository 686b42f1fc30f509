"""`CRUDBase(Model, "collection")` and its surroundings: as `db_utils` and `db_config` had them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Generic, Protocol, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ...connections import ConnectionFactory
from ...connections.base import ConnectionManager
from ...core import current
from ..backends.base import Index
from ..models.base import PyObjectId, Timestamped, new_object_id
from ..query.predicates import Filter
from .base import Repository
from .placement import Host

__all__ = ["CRUDBase", "MongoModel", "PyObjectId", "close_mongo_connection", "get_database", "init_db"]

ModelT = TypeVar("ModelT", bound=BaseModel)


class MongoModel(Timestamped):
    """A stored document: `id` (also `_id`), and timestamps that are set on every write. Naive datetimes are UTC."""

    model_config = ConfigDict(populate_by_name=True, validate_assignment=True)

    id: PyObjectId = Field(default_factory=new_object_id, alias="_id")

    @property
    def _id(self) -> str:
        return self.id

    @field_validator("*")
    @classmethod
    def _assume_utc(cls, value: Any) -> Any:
        if isinstance(value, datetime) and value.tzinfo is None:
            return value.replace(tzinfo=UTC)
        return value


class CRUDBase(Generic[ModelT]):
    """The operations of one collection. `repository` has all the others.

    It lives where `repositories` of the settings places a collection of that name, else on the best connection there
    is. Made without `db` (a DataLayer, or one of its connections) it acts on the current DataLayer.
    """

    indexes: tuple[Index, ...] = ()

    def __init__(self, model: type[ModelT], collection: str, db: Host | ConnectionManager[Any] | None = None) -> None:
        self.model = model
        members = {"model": model, "COLLECTION_NAME": collection, "indexes": self.indexes}
        kind = cast("type[Repository[ModelT]]", type(f"{model.__name__}Repository", (Repository,), members))
        self.repository = kind(db)

    async def create(self, obj_in: BaseModel | Mapping[str, Any]) -> ModelT:
        """Store what a creation schema (or a dict) says; DuplicateRecordError where a unique value is taken."""
        return await self.repository.create(self._entity(obj_in))

    async def get(self, id: Any) -> ModelT | None:
        return await self.repository.get(id)

    async def get_multi(self, skip: int = 0, limit: int = 100) -> list[ModelT]:
        return await self.repository.get_multi(skip, limit)

    async def update(self, id: Any, obj_in: BaseModel | Mapping[str, Any]) -> ModelT | None:
        """Change the fields that were set; the document after it, or None when there is none."""
        return await self.repository.update(id, obj_in)

    async def delete(self, id: Any) -> bool:
        return await self.repository.delete(id)

    async def find_one(self, query: Filter) -> ModelT | None:
        return await self.repository.find_one(query)

    async def find_many(self, query: Filter = None, skip: int = 0, limit: int | None = None) -> list[ModelT]:
        return await self.repository.find(query, skip=skip, limit=limit)

    async def count(self, query: Filter = None) -> int:
        return await self.repository.count(query)

    def _entity(self, given: BaseModel | Mapping[str, Any]) -> ModelT:
        if isinstance(given, self.model):
            return given
        values = given.model_dump() if isinstance(given, BaseModel) else dict(given)
        return self.model.model_validate(values)


class _Layer(Host, Protocol):
    @property
    def settings(self) -> Any: ...

    @property
    def connections(self) -> ConnectionFactory: ...


def get_database() -> Any:
    """Return the current DataLayer: the one entered or open, else the default, built of the configuration."""
    return current.layer()


async def init_db() -> None:
    """Connect to where repositories live, so that a store which is down is known at the start."""
    layer = cast("_Layer", current.layer())
    names = {each.connection for each in layer.settings.repositories.values()}
    for manager in {layer.place(Repository).manager, *map(layer.connections.get_connection_manager, names)}:
        await manager.connect()


async def close_mongo_connection() -> None:
    """Close every connection of the current DataLayer; the next use opens it again."""
    await cast("_Layer", current.layer()).connections.close_all()
