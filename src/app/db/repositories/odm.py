"""One document class, one backend object: the interface of an object-document mapper, over the repositories."""

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Generic, Self, TypeVar, cast

from pydantic import BaseModel, SecretStr

from ...config.settings import MongoDBSettings, RedisSettings, SQLiteSettings
from ...connections import ConnectionManager, ConnectionRegistry
from ...core.constants import ConnectionType
from ...core.errors import DuplicateRecordError, InvalidFilterError, RecordNotFoundError
from ...core.sync import SyncOwner
from ..models.base import Entity
from ..query.predicates import Filter, Predicate, both, compare, to_predicate
from .base import Repository
from .odm_document import Indexed, collection_of, indexes_of

__all__ = [
    "DocumentNotFoundError",
    "DuplicateInsertError",
    "Indexed",
    "LocalMindtraceODMBackend",
    "LocalODMBackend",
    "MindtraceDocument",
    "MindtraceODMBackend",
    "MongoMindtraceODMBackend",
    "MongoODMBackend",
    "ODMBackend",
    "ODMDocument",
    "RedisMindtraceODMBackend",
    "RedisODMBackend",
]

DocumentT = TypeVar("DocumentT", bound=BaseModel)


class DocumentNotFoundError(RecordNotFoundError):
    """No document has the id."""


class DuplicateInsertError(DuplicateRecordError):
    """A document with the same id, or the same value of a unique field, is there."""


class ODMDocument(Entity):
    """A stored document. An inner `Settings` may have `name` (the collection) and `indexes`.

    `use_cache` has to be False: nothing is cached, so a reader never sees an old document.
    """


class ODMBackend(Generic[DocumentT]):
    """The documents of one class on one connection, which opens on first use and closes with `close` or its loop.

    Used as `async with` it is closed at the end. `repository` has the operations that an ODM has no names for.
    """

    def __init__(self, model_cls: type[DocumentT], manager: ConnectionManager[Any]) -> None:
        manager.closes_with_loop = True
        self._manager = manager
        self._model = model_cls
        members = {"model": model_cls, "COLLECTION_NAME": collection_of(model_cls), "indexes": indexes_of(model_cls)}
        kind = cast("type[Repository[DocumentT]]", type(f"{model_cls.__name__}Repository", (Repository,), members))
        self.repository: Repository[DocumentT] = kind(manager)

    async def insert(self, obj: BaseModel) -> DocumentT:
        """Store a new document, given as one or as another model with its fields."""
        document = obj if isinstance(obj, self._model) else self._model.model_validate(obj.model_dump())
        try:
            return await self.repository.create(document)
        except DuplicateRecordError as error:
            raise DuplicateInsertError(error.collection, error.fields) from error

    async def get(self, id: str) -> DocumentT:
        document = await self.repository.get(id)
        if document is None:
            raise DocumentNotFoundError(f"{self.repository.COLLECTION_NAME} has no document with this id")
        return document

    async def delete(self, id: str) -> None:
        if not await self.repository.delete(id):
            raise DocumentNotFoundError(f"{self.repository.COLLECTION_NAME} has no document with this id")

    async def all(self) -> list[DocumentT]:
        return await self.repository.all()

    async def find(
        self,
        *criteria: Filter,
        skip: int = 0,
        limit: int | None = None,
        sort: str | Sequence[str | tuple[str, int]] | None = None,
        projection_model: type[BaseModel] | None = None,
        **equal: Any,
    ) -> list[Any]:
        """Return what meets all criteria: dicts, field expressions, and `name="value"`.

        `sort` is `"name"`, `"-name"`, or a list of these or of `("name", -1)`. With a `projection_model` only its
        fields are read, and the results are of that class.
        """
        given = [to_predicate(each) for each in criteria] + [compare(name, "=", value) for name, value in equal.items()]
        where: Predicate = reduce(both, given, to_predicate(None))
        order = list(_orders(sort))
        if projection_model is None:
            return await self.repository.find(where, order_by=order, skip=skip, limit=limit)
        query = self.repository.query().where(where).skip(skip).select(*projection_model.model_fields)
        for name, direction in order:
            query = query.order_by(name, direction)
        found = await (query if limit is None else query.limit(limit)).execute()
        return [projection_model.model_validate(each, by_name=True) for each in found]

    async def aggregate(self, pipeline: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return await self.repository.aggregate(pipeline)

    def get_raw_model(self) -> type[DocumentT]:
        return self._model

    def sync(self) -> SyncOwner:
        """Return the same without `await`, for code that has no event loop: `with backend.sync() as backend:`."""
        return SyncOwner(self)

    async def close(self) -> None:
        await self._manager.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


class MongoODMBackend(ODMBackend[DocumentT]):
    def __init__(self, model_cls: type[DocumentT], db_uri: str, db_name: str) -> None:
        settings = MongoDBSettings(url=SecretStr(db_uri), database=db_name)
        super().__init__(model_cls, ConnectionRegistry.get(ConnectionType.MONGODB)(settings))


class RedisODMBackend(ODMBackend[DocumentT]):
    def __init__(self, model_cls: type[DocumentT], redis_url: str) -> None:
        settings = RedisSettings(url=SecretStr(redis_url))
        super().__init__(model_cls, ConnectionRegistry.get(ConnectionType.REDIS)(settings))


class LocalODMBackend(ODMBackend[DocumentT]):
    """Documents in a file of this machine. `path=":memory:"` keeps nothing."""

    DEFAULT_PATH: ClassVar[Path] = Path(".manystore/documents.db")

    def __init__(self, model_cls: type[DocumentT], path: str | Path | None = None) -> None:
        settings = SQLiteSettings(path=Path(path or self.DEFAULT_PATH))
        super().__init__(model_cls, ConnectionRegistry.get(ConnectionType.SQLITE)(settings))


def _orders(sort: str | Sequence[str | tuple[str, int]] | None) -> Iterator[tuple[str, str]]:
    for each in [sort] if isinstance(sort, str) else sort or ():
        match each:
            case str():
                yield each.lstrip("+-"), "desc" if each.startswith("-") else "asc"
            case (str(name), 1 | -1 as direction):
                yield name, "asc" if direction == 1 else "desc"
            case _:
                raise InvalidFilterError("sort by a field's name, by '-name', or by (name, 1) or (name, -1)")


MindtraceDocument = ODMDocument
MindtraceODMBackend = ODMBackend
MongoMindtraceODMBackend = MongoODMBackend
RedisMindtraceODMBackend = RedisODMBackend
LocalMindtraceODMBackend = LocalODMBackend
