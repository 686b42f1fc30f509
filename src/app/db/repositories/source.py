"""What a query of `repository.query()` asks of its repository: checked operations in, entities or selections out."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any, Protocol, cast

from pydantic import BaseModel

from ..models.schema import ModelSchema
from ..query.evaluate import resolve
from ..query.keyset import complete, following
from ..query.operations import Count, Explain, Find, Operation, Stream
from ..query.ordering import check_field, read_size
from ..query.predicates import Filter, Predicate, both, check_path
from .pages import Page, read_cursor, write_cursor


class _Writes(Protocol):
    async def update_many(
        self, filter: Filter, changes: Mapping[str, Any] | BaseModel, *, everything: bool = False
    ) -> int: ...

    async def delete_many(self, filter: Filter, *, everything: bool = False, hard: bool = False) -> int: ...


class RepositorySource:
    """Reads of one repository. A selection is the paths that are wanted instead of whole entities."""

    def __init__(
        self,
        repository: _Writes,
        schema: ModelSchema[Any],
        run: Callable[[Operation], Awaitable[Any]],
        check: Callable[[Filter], Predicate],
    ) -> None:
        self._schema = schema
        self._run = run
        self.checked = check
        self.update_many = repository.update_many
        self.delete_many = repository.delete_many

    @property
    def field_names(self) -> tuple[str, ...]:
        return tuple(self._schema.fields)

    def check_selection(self, paths: tuple[str, ...]) -> None:
        for path in paths:
            check_field(check_path(path).partition(".")[0], self._schema.fields, "to select")

    async def find(self, find: Find, selection: tuple[str, ...]) -> list[Any]:
        return self._results(await self._run(find), selection)

    async def stream(self, find: Find, selection: tuple[str, ...], batch_size: int) -> AsyncIterator[Any]:
        batches = await self._run(Stream(find.where, find.order_by, read_size(batch_size), find.fields))
        async with aclosing(batches):  # whoever leaves in the middle frees what the store holds for it
            async for documents in batches:
                for result in self._results(documents, selection):
                    yield result

    async def page(self, find: Find, selection: tuple[str, ...], size: int, after: str | None) -> Page[Any]:
        order = complete(find.order_by, self._schema.key)
        where = find.where
        if after is not None:
            fields = [self._schema.fields[each.field] for each in order]
            where = both(where, following(read_cursor(after, order, fields), order))
        names = find.fields and tuple(dict.fromkeys((*find.fields, *(each.field for each in order))))
        limit = read_size(size) + 1  # one more tells whether there is another page
        documents = await self._run(Find(where, find.order_by, limit=limit, fields=names))
        cursor = None
        if len(documents) == limit:
            documents.pop()
            cursor = write_cursor([documents[-1][each.field] for each in order], order)
        return Page(self._results(documents, selection), cursor)

    async def explain(self, find: Find) -> dict[str, Any]:
        return cast("dict[str, Any]", await self._run(Explain(find)))

    async def count(self, where: Predicate, limit: int | None) -> int:
        return int(await self._run(Count(where, limit)))

    def _results(self, documents: Iterable[Mapping[str, Any]], selection: tuple[str, ...]) -> list[Any]:
        if not selection:
            return self._schema.entities(documents)
        return [{path: self._selected(document, path) for path in selection} for document in documents]

    def _selected(self, document: Mapping[str, Any], path: str) -> Any:
        """A field as the model reads it; what lies in one, as it is stored."""
        field = self._schema.fields.get(path)
        return resolve(document, path) if field is None else field.read(document[path])
