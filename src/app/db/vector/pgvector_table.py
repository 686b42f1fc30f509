"""A collection as a table: how it is made, what it remembers, and the names of its index."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

import psycopg

from ...core.constants import Distance
from ...core.errors import ConfigurationError, StoreUnavailableError, UnsupportedOperationError
from ...core.utils.logger import get_logger
from ..backends._names import check_identifier
from .contract import CollectionContract

logger = get_logger(__name__)

Connection = psycopg.AsyncConnection[Any]

MOST_DIMENSIONS: Final = 16_000
_HALF_FROM: Final = 2_001
"""pgvector indexes vectors of up to 2,000 dimensions, and halfvecs of up to 4,000."""
_MOST_INDEXED: Final = 4_000
_LOCK: Final = int.from_bytes(b"manyvect", "big", signed=True)
_LONGEST_NAME: Final = 63 - len("_embedding_idx")

_OPERATORS: Final = {
    Distance.COSINE: ("<=>", "cosine_ops"),
    Distance.L2: ("<->", "l2_ops"),
    Distance.INNER_PRODUCT: ("<#>", "ip_ops"),
}


def check_collection_name(name: str) -> str:
    name = check_identifier(str(name))
    if len(name) > _LONGEST_NAME:
        raise ConfigurationError(f"{name!r} is too long to name a collection: {_LONGEST_NAME} characters at the most")
    return name


@dataclass(frozen=True, slots=True)
class VectorTable:
    """The table of one collection, as it was found or is to be made."""

    name: str
    contract: CollectionContract
    oid: int = 0
    """Of the vectors' type in this database."""

    @property
    def half(self) -> bool:
        """Whether the vectors are kept with half the precision, since only such can be indexed."""
        return _HALF_FROM <= (self.contract.dimension or 0) <= _MOST_INDEXED

    @property
    def type(self) -> str:
        return "halfvec" if self.half else "vector"

    @property
    def operator(self) -> str:
        return _OPERATORS[self.contract.distance][0]

    @property
    def operator_class(self) -> str:
        return f"{self.type}_{_OPERATORS[self.contract.distance][1]}"

    @property
    def can_be_indexed(self) -> bool:
        return (self.contract.dimension or 0) <= _MOST_INDEXED

    @property
    def index(self) -> str:
        return f"{self.name}_embedding_idx"

    @property
    def quoted(self) -> str:
        return quote(self.name)

    def measure(self, distance: float) -> float:
        """What pgvector's operator gives as the cosine, the distance or the inner product."""
        match self.contract.distance:
            case Distance.COSINE:
                return 1 - distance
            case Distance.INNER_PRODUCT:
                return -distance
        return distance

    @classmethod
    async def find(cls, connection: Connection, name: str) -> Self | None:
        """The collection, by the comment on its table; None where there is no table of that name."""
        cursor = await connection.execute(
            "SELECT obj_description(c.oid, 'pg_class'), coalesce((SELECT t.oid FROM pg_attribute a "
            "JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = c.oid AND a.attname = 'embedding'), 0) "
            "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = current_schema() "
            "WHERE c.relname = %s AND c.relkind IN ('r', 'p')",
            (name,),
        )
        row = await cursor.fetchone()
        if row is None:
            return None
        try:
            known = dict(json.loads(row[0])["manystore"])
            contract = CollectionContract(**{**known, "distance": Distance(known["distance"])})
        except (TypeError, KeyError, ValueError) as error:
            raise StoreUnavailableError(
                f"the table {name} is no collection of vectors (its comment does not say how it was made): "
                "give the vector store another `collection`"
            ) from error
        return cls(name, contract, int(row[1]))

    @classmethod
    async def make(cls, connection: Connection, name: str, contract: CollectionContract) -> Self:
        """Make it unless it is there, in one transaction; of any number of processes one does it."""
        if not 1 <= (contract.dimension or 0) <= MOST_DIMENSIONS:
            raise UnsupportedOperationError(f"pgvector takes vectors of up to {MOST_DIMENSIONS} dimensions")
        table = cls(name, contract)
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            found = await cls.find(connection, name)
            if found is None:
                for statement in table._ddl():
                    await connection.execute(statement.encode())
                found = await cls.find(connection, name)
                logger.info("created the vector collection %s", name)
        assert found is not None  # noqa: S101 - made in this transaction
        return found

    def _ddl(self) -> Sequence[str]:
        name, dimension = self.quoted, self.contract.dimension
        comment = json.dumps({"manystore": asdict(self.contract)}, ensure_ascii=True).replace("'", "''")
        escape = "E" if "\\" in comment else ""
        comment = comment.replace("\\", "\\\\") if escape else comment
        return (
            "CREATE EXTENSION IF NOT EXISTS vector",
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
            f"CREATE INDEX {quote(f'{self.name}_content_idx')} ON {name} USING gin (to_tsvector('simple', content))",
            f"COMMENT ON TABLE {name} IS {escape}'{comment}'",
        )


def quote(identifier: str) -> str:
    return f'"{identifier}"'  # of letters, digits and _, see `check_collection_name`
