"""The statements of a collection. Names come from `VectorTable`, which checks them; values are parameters, always.

Where there is a filter, `{where}` stands for it and `{0}`, `{1}`, … for the parameters (`pgvector_where.py`); else they
are `$1`, `$2`, ….
"""

from typing import Final

from ..backends._postgres_dialect import literal
from .fusion import RANK_CONSTANT
from .pgvector_rows import COLUMNS
from .pgvector_table import VectorTable

_SHOWN: Final = "id, document_id, content, source, embedded_at AT TIME ZONE 'UTC'"
_ALL: Final = ", ".join(COLUMNS)
_STAGING: Final = "manystore_staging"
_AT_CONFLICT: Final = "ON CONFLICT (id) DO UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in COLUMNS[1:])
TEXT: Final = "to_tsvector('simple', left(content, 200000))"
"""A tsvector has 1 MB. Without a limit a text with more words is refused, or fails each search where it was before."""
_WORDS: Final = "replace(plainto_tsquery('simple', {0})::text, ' & ', ' | ')::tsquery"
"""Any of the words, by their spelling."""


def nearest(table: VectorTable, k: int, *, exact: bool, vectors: bool) -> str:
    """Of a vector. `k` is in the text: for one that it does not know the server plans each search anew."""
    distance = _every_distance(table) if exact else _distance(table)
    shown = f"{_SHOWN}, {distance}{_with(vectors)}"
    return f"SELECT {shown} FROM {table.quoted} WHERE {{where}} ORDER BY {distance} LIMIT {k:d}"


def nearest_few(table: VectorTable, k: int, few: int, *, vectors: bool) -> str:
    """As `nearest`, in one of two ways: up to `few` rows that meet the filter are compared one by one, which is exact
    and takes less than an index that has to look for them; more are left to the index. Within a statement a row stays
    at its place in its table, or partition, by which it is read in a third of the time that its id takes.
    """
    of_few, distance = _every_distance(table), _distance(table)
    rest = f"{_with(vectors)} FROM {table.quoted}"
    return (
        f"WITH few AS MATERIALIZED (SELECT tableoid AS part, ctid AS place FROM {table.quoted} WHERE {{where}} "
        f"LIMIT {few + 1}), "
        f"number AS MATERIALIZED (SELECT count(*) <= {few} AS is_few FROM few) "
        f"(SELECT {_SHOWN}, {of_few} AS d{rest} t JOIN few ON t.ctid = few.place AND t.tableoid = few.part "
        f"WHERE (SELECT is_few FROM number) ORDER BY {of_few} LIMIT {k:d}) UNION ALL "
        f"(SELECT {_SHOWN}, {distance} AS d{rest} WHERE NOT (SELECT is_few FROM number) AND {{where}} "
        f"ORDER BY {distance} LIMIT {k:d})"
    )


def matching_text(table: VectorTable) -> str:
    """Of a text and k."""
    return (
        f"SELECT {_SHOWN}, ts_rank_cd({TEXT}, {_WORDS})::float8 AS measure "
        f"FROM {table.quoted} WHERE {TEXT} @@ {_WORDS} AND {{where}} ORDER BY measure DESC, id LIMIT {{1}}"
    )


def hybrid(table: VectorTable, *, exact: bool) -> str:
    """Of a vector, a text, the number of candidates and k."""
    words = _WORDS.replace("{0}", "{1}")
    distance = _every_distance(table) if exact else _distance(table)
    return (
        "WITH near AS (SELECT id, row_number() OVER (ORDER BY d, id) AS place FROM "
        f"(SELECT id, {distance} AS d FROM {table.quoted} WHERE {{where}} ORDER BY {distance} LIMIT {{2}}) AS n), "
        "words AS (SELECT id, row_number() OVER (ORDER BY r DESC, id) AS place FROM "
        f"(SELECT id, ts_rank_cd({TEXT}, {words}) AS r FROM {table.quoted} "
        f"WHERE {TEXT} @@ {words} AND {{where}} ORDER BY r DESC, id LIMIT {{2}}) AS w), "
        f"fused AS (SELECT id, near.place, (coalesce(1.0 / ({RANK_CONSTANT} + near.place), 0) + "
        f"coalesce(1.0 / ({RANK_CONSTANT} + words.place), 0))::float8 AS measure "
        "FROM near FULL JOIN words USING (id) ORDER BY measure DESC, near.place NULLS LAST, id LIMIT {3}) "
        f"SELECT {_SHOWN}, measure FROM fused JOIN {table.quoted} USING (id) "
        "ORDER BY measure DESC, place NULLS LAST, id"
    )


def retrieve(table: VectorTable, *, vectors: bool) -> str:
    """Of ids."""
    return f"SELECT {_SHOWN}, 0.0::float8{_with(vectors)} FROM {table.quoted} WHERE id = ANY({{0}}) AND {{where}}"


def page(table: VectorTable, *, of_document: bool, vectors: bool) -> str:
    """Of the last id before it, a number of rows, and perhaps a document's id."""
    document = " AND document_id = {2}" if of_document else ""
    return (
        f"SELECT {_SHOWN}, 0.0::float8{_with(vectors)} FROM {table.quoted} "
        f"WHERE {{where}} AND ({{0}}::text IS NULL OR id > {{0}}){document} ORDER BY id LIMIT {{1}}"
    )


def count(table: VectorTable) -> str:
    return f"SELECT count(*) FROM {table.quoted} WHERE {{where}}"


def ids(table: VectorTable) -> str:
    return f"SELECT id FROM {table.quoted} WHERE {{where}} ORDER BY id"


def sources(table: VectorTable) -> str:
    """Of ids; under lock."""
    return f"SELECT id, source FROM {table.quoted} WHERE id = ANY({{0}}) AND {{where}} ORDER BY id FOR UPDATE"


def update_sources(table: VectorTable) -> str:
    """Of ids and their metadata."""
    return (
        f"UPDATE {table.quoted} t SET source = new.source "
        "FROM unnest($1::text[], $2::text[]) AS new(id, source) WHERE t.id = new.id"
    )


def delete(table: VectorTable) -> str:
    return f"DELETE FROM {table.quoted} WHERE {{where}}"


def delete_ids(table: VectorTable) -> str:
    return f"DELETE FROM {table.quoted} WHERE id = ANY({{0}}) AND {{where}}"


def delete_document(table: VectorTable) -> str:
    return f"DELETE FROM {table.quoted} WHERE document_id = {{0}} AND {{where}}"


def delete_others(table: VectorTable) -> str:
    """Of a document's id, and the ids of rows of it that stay."""
    return f"DELETE FROM {table.quoted} WHERE document_id = $1 AND NOT id = ANY($2::text[])"


def lock_document(table: VectorTable) -> str:
    return f"SELECT id FROM {table.quoted} WHERE document_id = $1 LIMIT 1 FOR UPDATE"


def re_embed(table: VectorTable) -> str:
    """Of ids, texts, vectors and a moment."""
    return (
        f"UPDATE {table.quoted} t SET embedding = new.embedding, embedded_at = $4::timestamptz "
        f"FROM unnest($1::text[], $2::text[], $3::{table.type}[]) AS new(id, content, embedding) "
        f"WHERE t.id = new.id AND t.content = new.content AND {_same(table)} RETURNING t.id"
    )


def count_of(table: VectorTable) -> str:
    """How many of these ids are there. With LIMIT 1 the planner would rather read the table, and find none."""
    return f"SELECT count(*) FROM {table.quoted} WHERE id = ANY($1::text[])"


def same(table: VectorTable) -> str:
    """A row where the name is still that of the table that was found."""
    return f"SELECT 1 WHERE {_same(table)}"


def upsert_arrays(table: VectorTable) -> str:
    return (
        f"INSERT INTO {table.quoted} ({_ALL}) SELECT * FROM unnest("
        f"$1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::{table.type}[]) "
        f"WHERE {_same(table)} {_AT_CONFLICT}"
    )


def copy(table: VectorTable | None = None) -> str:
    """Into the collection, or into the table beside it."""
    return f"COPY {_STAGING if table is None else table.quoted} ({_ALL}) FROM STDIN (FORMAT BINARY)"


def create_staging(table: VectorTable) -> str:
    return (
        f"CREATE TEMPORARY TABLE {_STAGING} (id text, document_id text, content text, source text, "
        f"embedded_at timestamptz, embedding {table.type}) ON COMMIT DROP"
    )


def upsert_staging(table: VectorTable) -> str:
    return f"INSERT INTO {table.quoted} ({_ALL}) SELECT {_ALL} FROM {_STAGING} {_AT_CONFLICT}"


DROP_STAGING: Final = f"DROP TABLE {_STAGING}"


def sample(table: VectorTable, rows: int) -> str:
    """The same ones while the rows are the same."""
    return f"SELECT id, embedding FROM {table.quoted} ORDER BY hashtext(id), id LIMIT {rows}"


def nearest_ids(table: VectorTable, number: int, *, exact: bool, vectors: bool = False) -> str:
    distance = (_every_distance(table) if exact else _distance(table)).format("$1")
    return f"SELECT id{_with(vectors)} FROM {table.quoted} ORDER BY {distance} LIMIT {number}"


def _distance(table: VectorTable) -> str:
    return f"embedding {table.operator} {{0}}::{table.type}"


def _every_distance(table: VectorTable) -> str:
    """With something added no index has the order. Whoever orders by it shows it so too, or each row has it computed
    twice.
    """
    return f"({_distance(table)}) + 0"


def _same(table: VectorTable) -> str:
    return f"to_regclass({literal(table.quoted)}) = {table.relation}::oid"


def _with(vectors: bool) -> str:
    return ", embedding" if vectors else ""
