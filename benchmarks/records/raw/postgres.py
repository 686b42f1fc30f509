"""psycopg 3 by hand: a pool in autocommit, statements written out, binary COPY for many."""

from typing import Any

from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from app.db.models.values import utc_now

from ..product import CHANGE, FIELDS, PriceChange, Product
from ..side import PAGE_SIZE, POOL_SIZE, Data, Side

_TABLE = """
CREATE TABLE raw_products (
    id text COLLATE "C" PRIMARY KEY, created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL,
    sku text COLLATE "C" NOT NULL, name text COLLATE "C" NOT NULL, category text COLLATE "C" NOT NULL,
    price double precision NOT NULL, quantity bigint NOT NULL, is_active boolean NOT NULL, tags jsonb NOT NULL
)
"""
_TYPES = ("text", "timestamptz", "timestamptz", "text", "text", "text", "float8", "int8", "bool", "jsonb")
_LISTED = ", ".join(FIELDS)
_INSERT = f"INSERT INTO raw_products ({_LISTED}) VALUES ({', '.join(['%s'] * len(FIELDS))})"
_ASSIGNED = ", ".join(f"{name} = excluded.{name}" for name in FIELDS if name not in ("id", "created_at"))


def to_row(product: Product) -> tuple[Any, ...]:
    return (
        product.id,
        product.created_at,
        product.updated_at,
        product.sku,
        product.name,
        product.category,
        product.price,
        product.quantity,
        product.is_active,
        Jsonb(product.tags),
    )


def to_product(row: Any) -> Product:
    return Product.model_validate(dict(zip(FIELDS, row, strict=True)))


class RawPostgres(Side):
    name = "raw"

    def __init__(self, url: str) -> None:
        self._url = url

    async def open(self) -> None:
        self._pool = AsyncConnectionPool(
            self._url, kwargs={"autocommit": True}, min_size=0, max_size=POOL_SIZE, open=False
        )
        await self._pool.open()
        async with self._pool.connection() as connection:
            await connection.execute(_TABLE)
            await connection.execute("CREATE UNIQUE INDEX raw_products_sku ON raw_products (sku)")
            await connection.execute("CREATE INDEX raw_products_category ON raw_products (category)")

    async def close(self) -> None:
        await self._pool.close()

    async def clear(self) -> None:
        async with self._pool.connection() as connection:
            await connection.execute("TRUNCATE raw_products")

    async def create(self, data: Data) -> Product:
        product = Product(**data)
        async with self._pool.connection() as connection:
            await connection.execute(_INSERT, to_row(product))
        return Product.model_validate(product.model_dump())

    async def get(self, data: Data) -> Product | None:
        return await self._one(f"SELECT {_LISTED} FROM raw_products WHERE id = %s", data["id"])

    async def get_by_unique_field(self, data: Data) -> Product | None:
        return await self._one(f"SELECT {_LISTED} FROM raw_products WHERE sku = %s", data["sku"])

    async def update(self, data: Data) -> Product | None:
        change = PriceChange(**CHANGE)
        sql = f"UPDATE raw_products SET price = %s, updated_at = %s WHERE id = %s RETURNING {_LISTED}"
        return await self._one(sql, change.price, utc_now(), data["id"])

    async def exists(self, data: Data) -> bool:
        async with self._pool.connection() as connection:
            cursor = await connection.execute("SELECT 1 FROM raw_products WHERE sku = %s LIMIT 1", (data["sku"],))
            return await cursor.fetchone() is not None

    async def page(self, data: Data) -> list[Product]:
        sql = f"SELECT {_LISTED} FROM raw_products WHERE category = %s ORDER BY sku, id LIMIT %s"
        async with self._pool.connection() as connection:
            cursor = await connection.execute(sql, (data["category"], PAGE_SIZE + 1))
            rows = await cursor.fetchall()
        return [to_product(row) for row in rows[:PAGE_SIZE]]

    async def delete(self, data: Data) -> bool:
        async with self._pool.connection() as connection:
            cursor = await connection.execute("DELETE FROM raw_products WHERE id = %s", (data["id"],))
            return cursor.rowcount == 1

    async def bulk_insert(self, batch: list[Data]) -> list[Product]:
        products = [Product(**data) for data in batch]
        async with self._pool.connection() as connection:
            await self._copy(connection, "raw_products", products)
        return [Product.model_validate(product.model_dump()) for product in products]

    async def bulk_upsert(self, batch: list[Data]) -> int:
        products = [Product(**data) for data in batch]
        async with self._pool.connection() as connection, connection.transaction():
            await connection.execute("CREATE TEMP TABLE staged (LIKE raw_products) ON COMMIT DROP")
            await self._copy(connection, "staged", products)
            cursor = await connection.execute(
                f"INSERT INTO raw_products ({_LISTED}) SELECT {_LISTED} FROM staged "
                f"ON CONFLICT (id) DO UPDATE SET {_ASSIGNED}"
            )
            return cursor.rowcount

    async def _copy(self, connection: Any, table: str, products: list[Product]) -> None:
        async with (
            connection.cursor() as cursor,
            cursor.copy(f"COPY {table} ({_LISTED}) FROM STDIN (FORMAT BINARY)") as copy,
        ):
            copy.set_types(_TYPES)
            for product in products:
                await copy.write_row(to_row(product))

    async def _one(self, sql: str, *parameters: Any) -> Product | None:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(sql, parameters)
            row = await cursor.fetchone()
        return None if row is None else to_product(row)
