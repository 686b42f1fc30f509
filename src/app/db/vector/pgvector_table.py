"""A collection as a table: how it is made, what it remembers, and the names of its index."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, Self

import psycopg

from ...core.constants import Distance
from ...core.errors import (
    ConfigurationError,
    MigrationError,
    StoreUnavailableError,
    TransactionError,
    UnsupportedOperationError,
)
from ...core.utils.logger import get_logger
from ..backends._postgres_dialect import literal
from .contract import CollectionContract

logger = get_logger(__name__)

Connection = psycopg.AsyncConnection[Any]

MOST_DIMENSIONS: Final = 16_000
_HALF_FROM: Final = 2_001
"""pgvector indexes vectors of up to 2,000 dimensions, and halfvecs of up to 4,000."""
_MOST_INDEXED: Final = 4_000
_LOCK: Final = int.from_bytes(b"manyvect", "big", signed=True)
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,48}", re.ASCII)  # 63 is the limit, and `_embedding_idx` is 14

_OPERATORS: Final = {
    Distance.COSINE: ("<=>", "cosine_ops"),
    Distance.L2: ("<->", "l2_ops"),
    Distance.INNER_PRODUCT: ("<#>", "ip_ops"),
}


class TableReplacedError(MigrationError):
    """The table is gone, or another has its name; nothing was written."""


def check_collection_name(name: str) -> str:
    """Return the name if a table and its indexes can be called so; ConfigurationError otherwise."""
    if not _NAME.fullmatch(str(name)):
        raise ConfigurationError(
            f"{name!r} is not a collection name on PostgreSQL: a letter, then up to 48 letters, digits and '_'"
        )
    return name


@dataclass(frozen=True)
class VectorTable:
    """The table of one collection, as it was found or is to be made."""

    name: str
    contract: CollectionContract
    schema: str = "public"
    """Where the extension is, which need not be on the search path."""
    oid: int = 0
    """Of the vectors' type in this database."""
    relation: int = 0
    """Of the table itself: another one of its name has another."""

    @cached_property
    def half(self) -> bool:
        """Whether the vectors are kept with half the precision, since only such can be indexed."""
        return _HALF_FROM <= (self.contract.dimension or 0) <= _MOST_INDEXED

    @cached_property
    def type(self) -> str:
        return f"{quote(self.schema)}.{'halfvec' if self.half else 'vector'}"

    @cached_property
    def operator(self) -> str:
        return f"OPERATOR({quote(self.schema)}.{_OPERATORS[self.contract.distance][0]})"

    @property
    def operator_class(self) -> str:
        return f"{self.type}_{_OPERATORS[self.contract.distance][1]}"

    @property
    def can_be_indexed(self) -> bool:
        return (self.contract.dimension or 0) <= _MOST_INDEXED

    @property
    def index(self) -> str:
        return f"{self.name}_embedding_idx"

    @cached_property
    def quoted(self) -> str:
        return quote(self.name)

    @classmethod
    async def find(cls, connection: Connection, name: str) -> Self | None:
        """The collection, by the comment on its table; None where there is no table of that name."""
        cursor = await connection.execute(
            "SELECT obj_description(c.oid, 'pg_class'), coalesce(t.oid, 0), coalesce(e.nspname, ''), c.oid "
            "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = current_schema() "
            "LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'embedding' AND NOT a.attisdropped "
            "LEFT JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_namespace e ON e.oid = t.typnamespace "
            "WHERE c.relname = %s AND c.relkind IN ('r', 'p')",
            (name,),
        )
        row = await cursor.fetchone()
        if row is None:
            return None
        try:
            contract = CollectionContract.from_json(json.loads(row[0])["manystore"])
        except (TypeError, KeyError, ValueError) as error:
            raise StoreUnavailableError(
                f"the table {name} is no collection of vectors (its comment does not say how it was made): "
                "give the vector store another `collection`"
            ) from error
        return cls(name, contract, str(row[2]), int(row[1]), int(row[3]))

    @classmethod
    async def make(cls, connection: Connection, name: str, contract: CollectionContract) -> Self:
        """Make it unless it is there, in one transaction; of any number of processes one does it."""
        if not 1 <= (contract.dimension or 0) <= MOST_DIMENSIONS:
            raise UnsupportedOperationError(f"pgvector takes vectors of up to {MOST_DIMENSIONS} dimensions")
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            found = await cls.find(connection, name)
            if found is None:
                table = cls(name, contract, await _extension(connection))
                for statement in table._ddl():
                    await connection.execute(statement.encode())
                found = await cls.find(connection, name)
                logger.info("created the vector collection %s", name)
        assert found is not None  # noqa: S101 - made in this transaction
        return found

    async def adopted(self, connection: Connection, contract: CollectionContract) -> Self:
        """The collection with the embedding of the first store that writes to it, where it was made without any."""
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            found = await type(self).find(connection, self.name)
            if found is None or found.contract.provider is not None:
                return found or self
            known = replace(found.contract, provider=contract.provider, model=contract.model)
            return await found.remembering(connection, known)

    @classmethod
    async def amend(
        cls, connection: Connection, name: str, change: Callable[[CollectionContract], CollectionContract]
    ) -> Self | None:
        """Change what the collection remembers. Where it takes no more writes, those that have begun end first."""
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            found = await cls.find(connection, name)
            if found is None:
                return None
            contract = change(found.contract)
            if contract.moving_to is not None:
                await connection.execute(f"LOCK TABLE {found.quoted} IN SHARE ROW EXCLUSIVE MODE".encode())
            return await found.remembering(connection, contract)

    @classmethod
    async def replace(cls, connection: Connection, name: str, staged: str, run: str | None) -> None:
        """Drop a collection, and give its name and who may use it to another, in one transaction."""
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            found = await cls.find(connection, staged)
            if found is None:
                return  # it was done
            old = await cls.find(connection, name)
            if old is not None and old.contract.moving_to is None:
                raise TransactionError(f"{name}: the collection was opened to writes again, and is not replaced")
            if old is not None:
                old.contract.check_run(run, name)
            grants = await connection.execute(
                "SELECT privilege_type, "
                "CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END "
                "FROM pg_class c, aclexplode(c.relacl) WHERE c.oid = to_regclass(%s)",
                (quote(name),),
            )
            for privilege, whom in await grants.fetchall():
                await connection.execute(f"GRANT {privilege} ON TABLE {found.quoted} TO {whom}".encode())
            await connection.execute(f"DROP TABLE IF EXISTS {quote(name)}".encode())
            indexes = await connection.execute(
                "SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid "
                "WHERE i.indrelid = %s::regclass",
                (found.quoted,),
            )
            for (index,) in await indexes.fetchall():
                if index.startswith(f"{staged}_"):
                    new = quote(name + index.removeprefix(staged))
                    await connection.execute(f"ALTER INDEX {quote(index)} RENAME TO {new}".encode())
            await connection.execute(f"ALTER TABLE {found.quoted} RENAME TO {quote(name)}".encode())
            await replace(found, name=name).remembering(connection, replace(found.contract, replaces=None))

    async def remembering(self, connection: Connection, contract: CollectionContract) -> Self:
        """The same with another contract, which the table has from now on."""
        table = replace(self, contract=contract)
        await connection.execute(table.comment().encode())
        return table

    def _ddl(self) -> Sequence[str]:
        name, dimension = self.quoted, self.contract.dimension
        return (
            f"CREATE TABLE {name} ("  # noqa: ISC004 - one statement
            'id text COLLATE "C" PRIMARY KEY, '
            "document_id text NOT NULL, "
            "content text NOT NULL, "
            f"embedding {self.type}({dimension}) NOT NULL, "
            "source text NOT NULL, "
            "metadata jsonb GENERATED ALWAYS AS (source::jsonb) STORED, "
            "embedded_at timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP)",
            # A hash has no longest value, which a document's id may have.
            f"CREATE INDEX {quote(f'{self.name}_document_idx')} ON {name} USING hash (document_id)",
            self.comment(),
        )

    def comment(self) -> str:
        """The statement that has the table remember its contract."""
        told = literal(json.dumps({"manystore": self.contract.to_json()}))
        return f"COMMENT ON TABLE {self.quoted} IS {told}"


async def _extension(connection: Connection) -> str:
    """The schema of pgvector, which is installed where there is none: where everybody looks, if that is allowed."""
    look = (
        "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'"
    )
    row = await (await connection.execute(look)).fetchone()
    if row is None:
        may = "SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = 'public'"
        public = await (await connection.execute(may)).fetchone()
        where = " SCHEMA public" if public is not None and public[0] else ""
        await connection.execute(f"CREATE EXTENSION IF NOT EXISTS vector{where}".encode())
        row = await (await connection.execute(look)).fetchone()
        assert row is not None  # noqa: S101 - made a moment ago
        logger.info("installed the extension vector")
    return str(row[0])


def quote(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'
