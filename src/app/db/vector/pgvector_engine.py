"""A collection in PostgreSQL: each operation is one statement, or one transaction of few."""

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg

from ...connections._postgres_exchange import execute, fetch
from ...connections.postgres import PostgresConnectionManager
from ...core.constants import Distance
from ...core.errors import AppError
from ...core.utils.logger import get_logger
from ..backends._postgres_json import encode_nested
from ..query import ALL, Predicate
from . import pgvector_sql as sql
from .contract import CollectionContract
from .engine import Asked, Found, check_dimension
from .payload import Row
from .pgvector_index import INDEX_FROM, IndexKind, VectorIndex, build_index, find_index, index_metadata, index_words
from .pgvector_rows import (
    decode_sources,
    distance_of,
    found,
    text_array,
    vector_array,
    vector_parameter,
)
from .pgvector_session import PgVectorSession, again
from .pgvector_table import TableReplacedError, VectorTable, check_collection_name
from .pgvector_write import AT_ONCE, distinct, store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

logger = get_logger(__name__)

Connection = psycopg.AsyncConnection[Any]
R = TypeVar("R")

PAGE: Final = 500
_BLOCK: Final = 5_000
_LOOK_AGAIN: Final = 10.0
"""Seconds for which a collection counts as it was found: another process may have made it anew."""
_FEW: Final = 2_000
"""Rows that meet a filter up to which they are compared one by one."""


class PgVectorEngine(PgVectorSession):
    most = 10_000

    def __init__(
        self,
        manager: PostgresConnectionManager,
        collection: str,
        distance: Distance,
        asked: Asked,
        *,
        recall: float = 0.95,
        filterable: Sequence[str] = (),
    ) -> None:
        super().__init__(manager, check_collection_name(collection), distance, asked)
        self.settles = _LOOK_AGAIN + manager.settings.timeout  # for a write that waits for a connection
        self._place = f"the collection {collection!r} in PostgreSQL"
        self._recall = recall
        self._filterable = tuple(filterable)
        self._filtered: VectorTable | None = None
        """The table whose `filterable` paths were looked after, or are about to be."""
        self._table: VectorTable | None = None
        self._checked: tuple[VectorTable, CollectionContract] | None = None
        self._index: VectorIndex | None = None
        self._looked = 0.0
        self._written = 0
        self._has_words = False
        """Whether the words of this table were seen to be indexed."""

    async def open(self) -> CollectionContract | None:
        table = await self._found(again=True)
        return None if table is None else table.contract

    async def contract(self) -> CollectionContract | None:
        """How the collection was made, whatever is asked of it; None where there is none."""
        table = await self._on(lambda connection: VectorTable.find(connection, self.collection), write=False)
        return None if table is None else table.contract

    async def make(self, dimension: int) -> None:
        """Make the collection unless it is there, and check its contract."""
        await self._found_or_made(dimension)

    @again
    async def upsert(self, rows: Sequence[Row], vectors: "NDArray[np.float32]", embedded_at: str) -> None:
        rows, vectors = distinct(rows, vectors)
        for start in range(0, len(rows), _BLOCK):
            part, part_vectors = rows[start : start + _BLOCK], vectors[start : start + _BLOCK]
            table = await self._found_or_made(vectors.shape[1])
            indexed = self._index is not None
            await self._write(
                lambda c, t=table, r=part, v=part_vectors, i=indexed: store(c, t, r, v, embedded_at, indexed=i)  # type: ignore[misc]
            )
        if len(rows):
            await self._count_in(len(rows), table)

    @again
    async def replace(
        self,
        document_id: str,
        rows: Sequence[Row],
        vectors: "NDArray[np.float32]",
        embedded_at: str,
        *,
        only_present: bool = False,
    ) -> bool:
        table = await self._found_or_made(vectors.shape[1])
        rows, vectors = distinct(rows, vectors)

        async def work(connection: Connection) -> bool:
            async with connection.transaction():
                if only_present and not await fetch(connection, sql.lock_document(table), (document_id,)):
                    return False
                await store(connection, table, rows, vectors, embedded_at, indexed=self._index is not None)
                kept = text_array([row.id for row in rows])
                await execute(connection, sql.delete_others(table), (document_id, kept))
                return True

        done = await self._write(work)
        await self._count_in(len(rows), table)
        return done

    @again
    async def re_embed(self, texts: Mapping[str, str], vectors: "NDArray[np.float32]", embedded_at: str) -> list[str]:
        table = await self._found_or_made(vectors.shape[1])
        ids = list(texts)

        async def work(connection: Connection) -> list[str]:
            done: list[str] = []
            async with connection.transaction():
                for start in range(0, len(ids), AT_ONCE):
                    part = ids[start : start + AT_ONCE]
                    new = vector_array(vectors[start : start + AT_ONCE], half=table.half, oid=table.oid)
                    given = (text_array(part), text_array([texts[each] for each in part]), new, embedded_at)
                    done += [row[0] for row in await fetch(connection, sql.re_embed(table), given)]
                if not done and not await fetch(connection, sql.same(table), ()):
                    raise TableReplacedError(f"{self.collection}: another table has taken its place")
            return done

        return await self._write(work)

    @again
    async def nearest(
        self, vector: "NDArray[np.float32]", k: int, predicate: Predicate, *, vectors: bool = False
    ) -> list[Found]:
        """By the index, which goes on until k rows meet the filter; where it gives up, by all rows that do."""
        table = await self._found()
        if table is None:
            return []
        check_dimension(self.collection, table.contract.dimension, vector)
        given = vector_parameter(vector, half=table.half)
        settings = None if self._index is None else self._index.search(self._recall, k)
        if settings is None:
            rows = await self._fetch(sql.nearest(table, k, exact=True, vectors=vectors), predicate, given)
        else:
            if predicate == ALL:
                text = sql.nearest(table, k, exact=False, vectors=vectors)
            else:
                text = sql.nearest_few(table, k, _FEW, vectors=vectors)
            rows = await self._fetch(text, predicate, given, settings=settings)
            if len(rows) < k and predicate != ALL:
                rows = await self._fetch(sql.nearest(table, k, exact=True, vectors=vectors), predicate, given)
        if table.contract.moving_to is not None:
            await self._found()  # raises where it may have been replaced before its vectors were compared
        rows.sort(key=distance_of)  # an IVFFlat index gives them in nearly their order
        return found(rows, table.contract.distance, half=table.half)

    @again
    async def matching_text(self, text: str, k: int, predicate: Predicate) -> list[Found]:
        table = await self._with_words()
        if table is None:
            return []
        return found(await self._fetch(sql.matching_text(table), predicate, text, k), None)

    @again
    async def hybrid(
        self, vector: "NDArray[np.float32]", text: str, k: int, predicate: Predicate, *, candidates: int
    ) -> list[Found]:
        table = await self._with_words()
        if table is None:
            return []
        check_dimension(self.collection, table.contract.dimension, vector)
        given = vector_parameter(vector, half=table.half)
        settings = None if self._index is None else self._index.search(self._recall, candidates)
        statement = sql.hybrid(table, exact=settings is None)
        rows = await self._fetch(statement, predicate, given, text, candidates, k, settings=settings)
        if table.contract.moving_to is not None:
            await self._found()
        return found(rows, None)

    @again
    async def retrieve(self, ids: Sequence[str], *, vectors: bool = False) -> list[Found]:
        table = await self._found()
        if table is None:
            return []
        text = sql.retrieve(table, vectors=vectors)
        rows = await self._fetch(text, ALL, list(dict.fromkeys(ids)))
        there = {each.id: each for each in found(rows, None, half=table.half)}
        return [there[each] for each in ids if each in there]

    async def pages(
        self, predicate: Predicate, *, document_id: str | None = None, vectors: bool = False
    ) -> AsyncIterator[list[Found]]:
        table = await self._found()
        if table is None:
            return
        text = sql.page(table, of_document=document_id is not None, vectors=vectors)
        last: str | None = None
        rest = () if document_id is None else (document_id,)
        while True:
            try:
                rows = await self._fetch(text, predicate, last, PAGE, *rest)
            except TableReplacedError:
                if await self._found(again=True) is None:
                    return
                continue
            if rows:
                last = rows[-1][0]
                yield found(rows, None, half=table.half)
            if len(rows) < PAGE:
                return

    @again
    async def count(self, predicate: Predicate) -> int:
        table = await self._found()
        if table is None:
            return 0
        [[number]] = await self._fetch(sql.count(table), predicate)
        return int(number)

    async def delete(self, ids: Sequence[str]) -> int:
        return await self._delete(sql.delete_ids, ALL, list(ids))

    async def delete_where(self, predicate: Predicate) -> int:
        return await self._delete(sql.delete, predicate)

    async def delete_document(self, document_id: str) -> int:
        return await self._delete(sql.delete_document, ALL, document_id)

    @again
    async def update_metadata(self, predicate: Predicate, changes: Mapping[str, Any]) -> int:
        """In blocks, each read under lock and written in one transaction: JSON text keeps the order of its keys."""
        table = await self._found(write=True)
        if table is None:
            return 0
        keys = [row[0] for row in await self._fetch(sql.ids(table), predicate)]

        async def work(connection: Connection, part: list[str]) -> int:
            async with connection.transaction():
                rows = await fetch(connection, *self._wheres.statement(sql.sources(table), predicate, part))
                sources = [encode_nested({**each, **changes}) for each in decode_sources([row[1] for row in rows])]
                given = (text_array([row[0] for row in rows]), text_array(sources))
                return await execute(connection, sql.update_sources(table), given) if rows else 0

        total = 0
        for start in range(0, len(keys), AT_ONCE):
            await self._found(write=True)  # of many it may be about to be replaced by now
            total += await self._write(lambda connection, p=keys[start : start + AT_ONCE]: work(connection, p))  # type: ignore[misc]
        return total

    async def drop(self) -> bool:
        async def work(connection: Connection) -> bool:
            table = await VectorTable.find(connection, self.collection)
            if table is None:
                return False
            await connection.execute(f"DROP TABLE IF EXISTS {table.quoted}".encode())
            return True

        self._forget()
        return await self._write(work)

    async def amend(self, change: Callable[[CollectionContract], CollectionContract]) -> CollectionContract | None:
        table = await self._long(lambda connection: VectorTable.amend(connection, self.collection, change))
        self._forget()
        return None if table is None else table.contract

    async def replace_by(self, staged: str, run: str | None = None) -> None:
        await self._long(lambda connection: VectorTable.replace(connection, self.collection, staged, run))
        self._forget()

    async def loaded(self) -> None:
        self.loading = False
        table = await self._found(again=True)
        if table is not None:
            self._written = INDEX_FROM if self._index is None else self._index.rows
            await self._count_in(0, table)

    async def create_index(self, kind: IndexKind = "hnsw", lists: int | None = None) -> None:
        """Build the index now; by itself that is done once there are 5,000 rows."""
        table = await self._found(again=True)
        if table is not None:
            self._index = await self._long(
                lambda connection: build_index(connection, table, self._recall, kind=kind, lists=lists)
            )

    @again
    async def _delete(self, text: Callable[[VectorTable], str], predicate: Predicate, *given: Any) -> int:
        table = await self._found(write=True)
        if table is None:
            return 0
        statement, parameters = self._wheres.statement(text(table), predicate, *given)
        return await self._write(lambda connection: execute(connection, statement, parameters))

    async def _count_in(self, rows: int, table: VectorTable) -> None:
        """Have the index built when there is enough, and measured again when there is twice as much."""
        self._written += rows
        if (
            self.loading
            or not table.can_be_indexed
            or self._written < (INDEX_FROM if self._index is None else self._index.rows)
        ):
            return
        number = await self.count(ALL)
        self._written = 0
        if number >= INDEX_FROM:
            self._index = await self._long(lambda connection: build_index(connection, table, self._recall))

    def _forget(self) -> None:
        self._table = self._index = None
        self._looked = 0.0
        self._has_words = False

    async def _found(self, *, again: bool = False, write: bool = False) -> VectorTable | None:
        """The collection, its contract checked. None is not remembered, so another process may make it at any time; nor
        is one that is about to be replaced.
        """
        asked = await self.asked(None)
        known = self._table is not None and self._table.contract.moving_to is None
        if again or not known or time.monotonic() - self._looked > _LOOK_AGAIN:

            async def look(connection: Connection) -> tuple[VectorTable | None, VectorIndex | None]:
                table = await VectorTable.find(connection, self.collection)
                return table, None if table is None else await find_index(connection, table)

            self._table, self._index = await self._on(look, write=False)
            self._looked = time.monotonic()
        if self._table is not None and (write or self._checked != (self._table, asked)):
            try:
                self._table.contract.check(asked, self._place, write=write)
            except AppError:
                self._forget()  # it may be made anew as it is asked for
                raise
            self._checked = self._table, asked
        return self._table

    async def _with_words(self) -> VectorTable | None:
        table = await self._found()
        if table is not None and not self._has_words:
            self._has_words = True
            await self._long(lambda connection: index_words(connection, table))
        return table

    async def _found_or_made(self, dimension: int) -> VectorTable:
        asked = await self.asked(dimension)
        table = await self._found(write=True)
        if table is None:
            table = self._table = await self._write(lambda c: VectorTable.make(c, self.collection, asked))
        table.contract.check(asked, self._place, write=True)
        if table.contract.provider is None and asked.provider is not None:
            whose = table
            table = self._table = await self._write(lambda connection: whose.adopted(connection, asked))
            table.contract.check(asked, self._place, write=True)
        if self._filterable and (self._filtered is None or self._filtered.relation != table.relation):
            await self._index_metadata(table)
        return table

    async def _index_metadata(self, table: VectorTable) -> None:
        """Once for each table: without an index filters are slower, and nobody need wait for that to be mended."""
        self._filtered = table
        try:
            await self._long(lambda connection: index_metadata(connection, table, self._filterable))
        except AppError as error:
            paths = ", ".join(self._filterable)
            logger.warning("%s: no index on %s, so filters read every row: %s", self._place, paths, error)
        except BaseException:
            self._filtered = None
            raise
