"""The index of a collection: built once there is enough in it, and how wide it has to be searched for a recall."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import psycopg

from ...connections._postgres_binary import Binary
from ...connections._postgres_exchange import fetch
from ...core.errors import ConfigurationError
from ...core.utils.logger import get_logger
from . import pgvector_sql as sql
from .pgvector_rows import decode_vector, vector_parameter
from .pgvector_table import VectorTable, quote
from .pgvector_where import expression_at
from .question import Question, question_beside

logger = get_logger(__name__)

Connection = psycopg.AsyncConnection[Any]
IndexKind = Literal["hnsw", "ivfflat"]
Recalls: TypeAlias = tuple[tuple[int, float], ...]
"""Widths of search, the narrowest first, and the share of the neighbours that each finds."""

INDEX_FROM: Final = 5_000
"""Rows from which on an index is worth its making; fewer are compared one by one in some milliseconds."""
_WIDTHS: Final = {"hnsw": (40, 60, 100, 160, 250, 400, 640, 1_000), "ivfflat": (1, 3, 10, 30, 100, 300, 1_000)}
_PARAMETER: Final = {"hnsw": "hnsw.ef_search", "ivfflat": "ivfflat.probes"}
_SAMPLE: Final = 20
_SAMPLE_SECONDS: Final = 5.0
_NEIGHBOURS: Final = 10
_COMPARED: Final = 64 * 2**20
"""Bytes of a table up to which comparing with each row takes about as long as an index's widest search: 20,000 rows of
384 dimensions have 40 MB and take half of it, 6,000 of 1,536 dimensions have as many and take all of it.
"""
_SURE_BY_HALF: Final = 0.95
"""The largest recall for which half of the questions are enough where all their neighbours were found."""
_HARDER: Final = 1.25
"""How much more than what is made of rows (`question.py`) a question misses: of 20,000 random vectors."""


@dataclass(frozen=True, slots=True)
class VectorIndex:
    """An index that is there, and the recall that each width of search reached on a sample of its own rows."""

    kind: IndexKind
    rows: int
    """How many there were when it was measured."""
    recalls: Recalls
    table_bytes: int = field(default=0, compare=False)
    """How large the table was when it was last looked at."""

    def width(self, recall: float, k: int) -> int:
        """The narrowest search that reached the recall; it is never narrower than what is asked for."""
        width = self._enough(recall) or _WIDTHS[self.kind][-1]
        return min(max(width, k), 1_000) if self.kind == "hnsw" else width

    def search(self, recall: float, k: int) -> dict[str, str] | None:
        """What a session has to be told before a search; None where all rows are to be compared: for all of the recall,
        and where the widest search falls short of it and they are few.
        """
        if recall == 1 or (self.table_bytes <= _COMPARED and self._enough(recall) is None):
            return None
        return self.settings(recall, k)

    def settings(self, recall: float, k: int) -> dict[str, str]:
        """As `search`, of the index in any case. The iterative scan goes on until a filter has let k through, where one
        round alone would return what of the first `width` rows it lets through.
        """
        order = "strict_order" if self.kind == "hnsw" else "relaxed_order"
        return {_PARAMETER[self.kind]: str(self.width(recall, k)), f"{self.kind}.iterative_scan": order}

    def _enough(self, recall: float) -> int | None:
        for width, reached in self.recalls:  # the narrowest first
            if (1 - reached) * _HARDER <= 1 - recall:
                return width
        return None


async def find_index(connection: Connection, table: VectorTable) -> VectorIndex | None:
    """The index, if it is whole and was measured."""
    cursor = await connection.execute(
        "SELECT obj_description(x.oid, 'pg_class'), pg_table_size(i.indrelid) "
        "FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid "
        "JOIN pg_namespace n ON n.oid = x.relnamespace AND n.nspname = current_schema() "
        "WHERE x.relname = %s AND i.indisvalid",
        (table.index,),
    )
    row = await cursor.fetchone()
    if row is None or row[0] is None:
        return None
    known = json.loads(row[0])
    recalls = tuple((int(width), float(recall)) for width, recall in known["recalls"])
    return VectorIndex(known["kind"], known["rows"], recalls, int(row[1]))


async def build_index(
    connection: Connection,
    table: VectorTable,
    recall: float,
    *,
    kind: IndexKind = "hnsw",
    lists: int | None = None,
) -> VectorIndex | None:
    """Build the index while others go on to read and write, and measure it well enough for this recall; None where
    another process is at it.

    What a killed process left half built is built anew. Takes some seconds for each 10,000 rows.
    """
    if not table.can_be_indexed:
        raise ConfigurationError(f"{table.name}: pgvector indexes up to 4,000 dimensions; it is searched row by row")
    rows = await _count(connection, table)
    options = "" if kind == "hnsw" else f" WITH (lists = {lists or max(1, min(rows // 1_000, 10_000))})"
    if not await _create(connection, table, table.index, f"{kind} (embedding {table.operator_class}){options}"):
        return None
    told = json.dumps({"kind": kind, "rows": rows, "recalls": await _measure(connection, table, kind, recall)})
    await connection.execute(f"COMMENT ON INDEX {quote(table.index)} IS '{told}'".encode())
    return await find_index(connection, table)


async def index_metadata(connection: Connection, table: VectorTable, paths: Sequence[str]) -> None:
    """Index what stands at the paths of the metadata, for filters that ask it to be equal, while others go on."""
    for path in paths:
        digest = hashlib.sha256(path.encode()).hexdigest()[:12]
        await _create(connection, table, f"{table.name}_{digest}", f"btree (({expression_at(path)}))")


async def index_words(connection: Connection, table: VectorTable) -> None:
    """Index the words of the texts: on the first search by words, since loading takes longer with it."""
    await _create(connection, table, f"{table.name}_content_idx", f"gin ({sql.TEXT})")


async def _create(connection: Connection, table: VectorTable, name: str, definition: str) -> bool:
    """Whether the index is there and whole at the end; not where another process is at it."""
    cursor = await connection.execute(
        "SELECT i.indisvalid, EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid) "
        "FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid "
        "JOIN pg_namespace n ON n.oid = x.relnamespace AND n.nspname = current_schema() WHERE x.relname = %s",
        (name,),
    )
    row = await cursor.fetchone()
    if row is not None:
        valid, building = row
        if valid or building:
            return bool(valid)
        await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {quote(name)}".encode())
    try:
        await connection.execute(
            f"CREATE INDEX CONCURRENTLY {quote(name)} ON {table.quoted} USING {definition}".encode()
        )
    except (psycopg.errors.DuplicateTable, psycopg.errors.UniqueViolation):
        return False  # another process began a moment earlier
    logger.info("built the index %s of the vector collection %s", name, table.name)
    return True


async def _count(connection: Connection, table: VectorTable) -> int:
    cursor = await connection.execute(sql.count(table).format(where="true").encode())
    [number] = await cursor.fetchone() or (0,)
    return int(number)


async def _measure(connection: Connection, table: VectorTable, kind: IndexKind, recall: float) -> Recalls:
    """How many of the ten nearest each width finds, for questions made of rows of the table. Where the narrowest finds
    all of them for half of the questions, that may be enough; it counts as if it had missed one.
    """
    questions, widths = await _questions(connection, table), _WIDTHS[kind]
    deadline = time.monotonic() + _SAMPLE_SECONDS
    some = questions[: len(questions) // 2]
    truth = await _truth(connection, table, some, deadline)
    [(width, reached)] = await _recalls(connection, table, kind, widths[:1], some, truth)
    if reached == 1 and recall <= _SURE_BY_HALF and len(truth) == len(some):
        return ((width, round(1 - 1 / sum(map(len, truth)), 4)),)
    truth += await _truth(connection, table, questions[len(truth) :], deadline)
    return await _recalls(connection, table, kind, widths, questions, truth)


async def _truth(
    connection: Connection, table: VectorTable, questions: Sequence[Question], deadline: float
) -> list[set[str]]:
    """The neighbours of as many questions as there is time for, of one at least."""
    found: list[set[str]] = []
    for question in questions:
        found.append(await _neighbours(connection, table, question, exact=True))
        if time.monotonic() > deadline:
            break
    return found


async def _recalls(
    connection: Connection,
    table: VectorTable,
    kind: IndexKind,
    widths: Sequence[int],
    questions: Sequence[Question],
    truth: Sequence[set[str]],
) -> Recalls:
    """Of the questions of which the truth is known."""
    recalls: list[tuple[int, float]] = []
    async with connection.transaction():
        await connection.execute("SET LOCAL enable_seqscan = off")
        for width in widths:
            await connection.execute("SELECT set_config(%s, %s, true)", (_PARAMETER[kind], str(width)))
            found = [await _neighbours(connection, table, each, exact=False) for each in questions[: len(truth)]]
            right = sum(len(a & b) for a, b in zip(found, truth, strict=True))
            recalls.append((width, round(right / max(sum(map(len, truth)), 1), 4)))
            if recalls[-1][1] > 0.999:  # noqa: PLR2004 - wider finds no more
                break
    return tuple(recalls)


async def _questions(connection: Connection, table: VectorTable) -> list[Question]:
    rows = await fetch(connection, sql.sample(table, _SAMPLE), ())
    questions = []
    for key, data in rows:
        near = await fetch(connection, sql.nearest_ids(table, _NEIGHBOURS, exact=False, vectors=True), (Binary(data),))
        read = [(each, decode_vector(vector, half=table.half)) for each, vector in near if each != key]
        questions.append(question_beside((key, decode_vector(data, half=table.half)), read))
    return questions


async def _neighbours(connection: Connection, table: VectorTable, question: Question, *, exact: bool) -> set[str]:
    text = sql.nearest_ids(table, _NEIGHBOURS + len(question.rows), exact=exact)
    found = await fetch(connection, text, (vector_parameter(question.vector, half=table.half),))
    return question.neighbours([row[0] for row in found], _NEIGHBOURS)
