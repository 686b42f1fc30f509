"""PostgreSQL: its catalogue and its own counters, in one transaction that can only read."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import sql

from .base import MOST_COLLECTIONS, CollectionStatistics, IndexStatistics, StoreStatistics, connected, left_out

if TYPE_CHECKING:
    from ...connections.postgres import PostgresConnectionManager

    Connection = psycopg.AsyncConnection[tuple[Any, ...]]

COUNTED_BYTES: Final = 8 * 2**20
"""Tables up to this size are counted, since the estimate of a small table is often none at all."""
COUNTED_TOGETHER: Final = 64 * 2**20

# One table that is locked, for a migration, would hold up all: its size is asked for under a lock.
_LOCK_WAIT: Final = 200  # milliseconds


async def read(manager: "PostgresConnectionManager") -> StoreStatistics:
    notes: tuple[str, ...] = ()
    async with connected(manager), manager.connection() as connection, connection.transaction():
        await connection.execute("SET TRANSACTION READ ONLY")
        await connection.execute(f"SET LOCAL lock_timeout = {_LOCK_WAIT}")
        try:
            async with connection.transaction():
                tables, indexes = await _relations(connection, _FILES)
        except psycopg.errors.LockNotAvailable:
            tables, indexes = await _relations(connection, _NOTED)
            notes += ("a table is locked, so sizes and rows are what the last VACUUM or ANALYZE has noted",)
        [[total]] = await _fetch(connection, _HOW_MANY)
        counts = {} if notes else await _counts(connection, tables)
        [(size, backends, most, hits, reads, since)] = await _fetch(connection, _DATABASE)
    by_table = defaultdict(list)
    for table, *index in indexes:
        by_table[table].append(_index(index, since))
    return StoreStatistics(
        manager.name,
        manager.connection_type,
        size_bytes=size,
        collections=tuple(
            sorted((_table(each, counts, by_table[each[0]]) for each in tables), key=lambda each: each.name)
        ),
        details={
            "connections": backends,
            "max_connections": most,
            "cache_hit_ratio": round(hits / (hits + reads), 4) if hits + reads else None,
            "counted_since": _iso(since),
        },
        notes=(*notes, *left_out(len(tables), total)),
    )


def _table(row: Sequence[Any], counts: dict[int, int], indexes: list[IndexStatistics]) -> CollectionStatistics:
    oid, schema, name, is_visible, total, _, estimate, dead, vacuumed, analyzed, _ = row
    rows = counts.get(oid)
    return CollectionStatistics(
        name if is_visible else f"{schema}.{name}",
        estimate if rows is None else rows,
        exact=rows is not None,
        size_bytes=total,
        indexes=tuple(indexes),
        details={"dead_rows": dead, "vacuumed_at": _iso(vacuumed), "analyzed_at": _iso(analyzed)},
    )


def _index(row: Sequence[Any], since: datetime | None) -> IndexStatistics:
    name, kind, unique, keeps_promise, is_valid, size, uses, fields = row
    return IndexStatistics(
        name,
        tuple(fields),
        kind if is_valid else f"{kind} (invalid)",
        unique,
        size,
        uses,
        _iso(since),
        None if uses is None else uses == 0 and not keeps_promise,
    )


async def _counts(connection: "Connection", tables: Sequence[Sequence[Any]]) -> dict[int, int]:
    """The rows of small tables, in one statement. A lock or a lacking right leaves all of them to the estimate."""
    counted = []
    together = 0
    for oid, schema, name, _, _, heap, *_, may in tables:
        together += heap or 0
        if may and (heap or 0) <= COUNTED_BYTES and together <= COUNTED_TOGETHER:
            counted.append(
                sql.SQL("SELECT {}::bigint, count(*) FROM {}").format(sql.Literal(oid), sql.Identifier(schema, name))
            )
    if not counted:
        return {}
    try:
        async with connection.transaction():
            return dict(await _fetch(connection, sql.SQL(" UNION ALL ").join(counted)))
    except (
        psycopg.errors.LockNotAvailable,
        psycopg.errors.InsufficientPrivilege,
        psycopg.errors.UndefinedTable,  # dropped meanwhile
        psycopg.errors.ObjectNotInPrerequisiteState,  # a materialized view without data
    ):
        return {}


async def _relations(connection: "Connection", sizes: Mapping[str, sql.Composable]) -> tuple[list[Any], list[Any]]:
    parts = {"largest": _LARGEST.format(limit=MOST_COLLECTIONS), **sizes}
    return await _fetch(connection, _TABLES.format(**parts)), await _fetch(connection, _INDEXES.format(**parts))


async def _fetch(connection: "Connection", statement: Any) -> list[Any]:
    return await (await connection.execute(statement)).fetchall()


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


# Of all tables the largest: what is behind them costs a look at each of their files.
_LARGEST: Final = sql.SQL("""
    SELECT c.oid, c.relpages FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    ORDER BY c.relpages DESC, c.oid LIMIT {limit}
""")

_HOW_MANY: Final = """
    SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
"""

# The estimate is the planner's: what ANALYZE found in a page, times the pages of today; a table that it never saw has
# -1 there. Where policies hide rows, a count would be of what this user sees.
_TABLES: Final = sql.SQL("""
    WITH largest AS MATERIALIZED ({largest})
    SELECT c.oid::bigint, n.nspname::text, c.relname::text, pg_table_is_visible(c.oid),
           {whole}, {own},
           CASE WHEN c.reltuples >= 0 AND c.relpages > 0
                THEN (c.reltuples / c.relpages * {own} / current_setting('block_size')::bigint)::bigint
                ELSE s.n_live_tup END,
           s.n_dead_tup, greatest(s.last_vacuum, s.last_autovacuum),
           greatest(s.last_analyze, s.last_autoanalyze),
           has_table_privilege(c.oid, 'SELECT') AND NOT row_security_active(c.oid)
    FROM largest JOIN pg_class c USING (oid) JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid
    ORDER BY largest.relpages, c.oid
""")

# An index serves queries, or keeps a promise: that values are unique, that rows do not overlap, who a row is for
# replicas. pg_get_indexdef would have the text of an expression, and wait for locks.
_INDEXES: Final = sql.SQL("""
    WITH largest AS MATERIALIZED ({largest})
    SELECT i.indrelid::bigint, c.relname::text, am.amname::text, i.indisunique,
           i.indisunique OR i.indisexclusion OR i.indisreplident, i.indisvalid, {own}, s.idx_scan,
           ARRAY(SELECT coalesce(a.attname::text, '<expression>')
                 FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(number, at)
                 LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number AND k.number > 0
                 WHERE k.at <= i.indnkeyatts ORDER BY k.at)
    FROM largest JOIN pg_index i ON i.indrelid = largest.oid JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_am am ON am.oid = c.relam LEFT JOIN pg_stat_user_indexes s ON s.indexrelid = c.oid
    ORDER BY c.relname
""")

# The size of the files, for which a table must not be locked; and what VACUUM and ANALYZE have noted of it.
_FILES: Final = {
    "whole": sql.SQL("pg_total_relation_size(c.oid)"),
    "own": sql.SQL("pg_relation_size(c.oid)"),
}
_NOTED: Final = {
    "whole": sql.SQL("""
        (SELECT sum(r.relpages)::bigint FROM pg_class r
         WHERE r.oid IN (c.oid, c.reltoastrelid)
            OR r.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = c.oid))
        * current_setting('block_size')::bigint
    """),
    "own": sql.SQL("c.relpages * current_setting('block_size')::bigint"),
}

_DATABASE: Final = """
    SELECT pg_database_size(d.oid), s.numbackends, current_setting('max_connections')::int, s.blks_hit, s.blks_read,
           s.stats_reset
    FROM pg_database d JOIN pg_stat_database s ON s.datid = d.oid WHERE d.datname = current_database()
"""
