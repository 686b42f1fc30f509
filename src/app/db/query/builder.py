"""The fluent query: conditions, an order and a range first, then what to do with them."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar, cast

from pydantic import BaseModel

from ...core.errors import InvalidFilterError, MultipleRecordsError, RecordNotFoundError, UnsupportedOperationError
from .expressions import FieldPath
from .operations import Find
from .ordering import read_order, read_rows, read_skip
from .predicates import Filter, Predicate, both, compare, to_predicate

ResultT = TypeVar("ResultT")
_MISSING: Any = object()


class Source(Protocol):
    """A repository, as a query sees it."""

    @property
    def field_names(self) -> tuple[str, ...]: ...

    def checked(self, given: Filter) -> Predicate: ...
    def check_selection(self, paths: tuple[str, ...]) -> None: ...
    async def find(self, find: Find, selection: tuple[str, ...]) -> list[Any]: ...
    def stream(self, find: Find, selection: tuple[str, ...], batch_size: int) -> AsyncIterator[Any]: ...
    async def page(self, find: Find, selection: tuple[str, ...], size: int, after: str | None) -> Any: ...
    async def explain(self, find: Find) -> dict[str, Any]: ...
    async def count(self, where: Predicate, limit: int | None) -> int: ...
    async def update_many(
        self, filter: Filter, changes: Mapping[str, Any] | BaseModel, *, everything: bool = False
    ) -> int: ...
    async def delete_many(self, filter: Filter, *, everything: bool = False, hard: bool = False) -> int: ...


@dataclass(frozen=True, slots=True)
class QueryBuilder(Generic[ResultT]):
    """Made by `repository.query()`. Each step returns a new query, so one can be kept and built upon."""

    _source: Source
    _find: Find = field(default_factory=Find)
    _selection: tuple[str, ...] = ()

    def where(
        self, condition: str | FieldPath | Filter, operator: str = _MISSING, value: Any = _MISSING
    ) -> "QueryBuilder[ResultT]":
        """Narrow it: `where("age", ">", 25)`, `where(F.age > 25)` or `where({"age": {"$gt": 25}})`; all must hold."""
        if isinstance(condition, str):
            if operator is _MISSING:
                raise InvalidFilterError(f"where({condition!r}, …) takes an operator and a value: ('age', '>', 25)")
            if value is _MISSING and operator not in ("exists", "is null"):
                raise InvalidFilterError(f"where({condition!r}, {operator!r}, …) takes a value as well")
            added = compare(condition, operator, None if value is _MISSING else value)
        elif operator is not _MISSING or isinstance(condition, FieldPath):
            raise InvalidFilterError("where takes (field, operator, value), a field expression, or a dict")
        else:
            added = to_predicate(condition)
        return self._with(where=both(self._find.where, self._source.checked(added)))

    def order_by(self, name: str, direction: str = "asc") -> "QueryBuilder[ResultT]":
        """Sort by one more field: `order_by("created_at", "desc")` or `order_by("-created_at")`. Ties go by id."""
        given = name if str(name).startswith("-") and direction == "asc" else (name, direction)
        return self._with(order_by=(*self._find.order_by, *read_order([given], self._source.field_names)))

    def limit(self, rows: int) -> "QueryBuilder[ResultT]":
        return self._with(limit=read_rows(rows))

    def skip(self, rows: int) -> "QueryBuilder[ResultT]":
        """Leave out the first rows. The store still passes over them: `page` goes on where a page ended instead."""
        return self._with(skip=read_skip(rows))

    def select(self, *paths: str) -> "QueryBuilder[dict[str, Any]]":
        """Get dicts of these fields instead of entities; a dotted path leads into a nested one, None where it ends."""
        if not paths:
            raise InvalidFilterError("select takes the names of fields")
        self._source.check_selection(paths)
        names = tuple(dict.fromkeys(path.partition(".")[0] for path in paths))
        return cast("QueryBuilder[dict[str, Any]]", replace(self._with(fields=names), _selection=paths))

    async def execute(self) -> list[ResultT]:
        return await self._source.find(self._find, self._selection)

    async def first(self) -> ResultT | None:
        limit = 1 if self._find.limit is None else min(1, self._find.limit)
        found = await self._with(limit=limit).execute()
        return found[0] if found else None

    async def one(self) -> ResultT:
        """The only result; RecordNotFoundError for none, MultipleRecordsError for more."""
        limit = 2 if self._find.limit is None else min(2, self._find.limit)
        found = await self._with(limit=limit).execute()
        if not found:
            raise RecordNotFoundError("no record matches the query")
        if len(found) > 1:
            raise MultipleRecordsError("more than one record matches the query: narrow it, or take first()")
        return found[0]

    async def count(self) -> int:
        """How many `execute` would return."""
        skip, limit = self._find.skip, self._find.limit
        found = await self._source.count(self._find.where, None if limit is None else skip + limit)
        return max(found - skip, 0)

    async def exists(self) -> bool:
        return await self._with(limit=1 if self._find.limit is None else min(1, self._find.limit)).count() > 0

    def stream(self, *, batch_size: int = 500) -> AsyncIterator[ResultT]:
        """Every result, with one batch in memory at a time."""
        self._refuse_range("stream")
        return self._source.stream(self._find, self._selection, batch_size)

    async def page(self, *, size: int = 50, after: str | None = None) -> Any:
        """Return a `Page`: its `items`, and in `next` what to give as `after` for the page behind it."""
        self._refuse_range("page")
        return await self._source.page(self._find, self._selection, size, after)

    async def update(self, changes: Mapping[str, Any] | BaseModel, *, everything: bool = False) -> int:
        """Change all that match; how many did."""
        self._refuse_range("update")
        return await self._source.update_many(self._find.where, changes, everything=everything)

    async def delete(self, *, everything: bool = False, hard: bool = False) -> int:
        self._refuse_range("delete")
        return await self._source.delete_many(self._find.where, everything=everything, hard=hard)

    async def explain(self) -> dict[str, Any]:
        """How the store would find it: `store`, `index` (None where it looks at every record), and its own words."""
        return await self._source.explain(self._find)

    def _with(self, **changes: Any) -> "QueryBuilder[ResultT]":
        return replace(self, _find=replace(self._find, **changes))

    def _refuse_range(self, name: str) -> None:
        if self._find.skip or self._find.limit is not None:
            raise UnsupportedOperationError(f"{name} takes all that match: leave skip and limit out")
