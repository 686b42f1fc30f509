"""aiosqlite by hand: one connection, calls that cross to its thread once, statements written out."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiosqlite

from app.db.models.values import utc_now

from ..product import CHANGE, FIELDS, PriceChange, Product
from ..side import PAGE_SIZE, Data, Side

_TABLE = """
CREATE TABLE products (
    id TEXT NOT NULL PRIMARY KEY, created_at TEXT NOT NULL, updated_at TEXT NOT NULL, sku TEXT NOT NULL,
    name TEXT NOT NULL, category TEXT NOT NULL, price REAL NOT NULL, quantity INTEGER NOT NULL,
    is_active INTEGER NOT NULL, tags TEXT NOT NULL
) STRICT
"""
_LISTED = ", ".join(FIELDS)
_INSERT = f"INSERT INTO products ({_LISTED}) VALUES ({', '.join('?' * len(FIELDS))})"
_UPSERT = f"{_INSERT} ON CONFLICT (id) DO UPDATE SET " + ", ".join(
    f"{name} = excluded.{name}" for name in FIELDS if name not in ("id", "created_at")
)
_TAGS = FIELDS.index("tags")


def to_row(product: Product) -> tuple[Any, ...]:
    return (
        product.id,
        product.created_at.isoformat(),
        product.updated_at.isoformat(),
        product.sku,
        product.name,
        product.category,
        product.price,
        product.quantity,
        product.is_active,
        json.dumps(product.tags),
    )


def to_product(row: Any) -> Product:
    values = dict(zip(FIELDS, row, strict=True))
    values["tags"] = json.loads(row[_TAGS])
    return Product.model_validate(values)


class RawSQLite(Side):
    name = "raw"

    def __init__(self, directory: Path) -> None:
        self._path = directory / "raw.db"
        self._bulk = asyncio.Lock()  # the transactions of one connection cannot overlap

    async def open(self) -> None:
        self._db = await aiosqlite.connect(self._path, isolation_level=None)
        for statement in (
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = NORMAL",
            _TABLE,
            "CREATE UNIQUE INDEX products_sku ON products (sku)",
            "CREATE INDEX products_category ON products (category)",
        ):
            await self._db.execute_fetchall(statement)

    async def close(self) -> None:
        await self._db.close()

    async def clear(self) -> None:
        await self._db.execute_fetchall("DELETE FROM products")

    async def create(self, data: Data) -> Product:
        row = to_row(Product(**data))
        await self._db.execute_insert(_INSERT, row)
        return to_product(row)

    async def get(self, data: Data) -> Product | None:
        return await self._one(f"SELECT {_LISTED} FROM products WHERE id = ?", data["id"])

    async def get_by_unique_field(self, data: Data) -> Product | None:
        return await self._one(f"SELECT {_LISTED} FROM products WHERE sku = ?", data["sku"])

    async def update(self, data: Data) -> Product | None:
        change = PriceChange(**CHANGE)
        sql = f"UPDATE products SET price = ?, updated_at = ? WHERE id = ? RETURNING {_LISTED}"
        return await self._one(sql, change.price, utc_now().isoformat(), data["id"])

    async def exists(self, data: Data) -> bool:
        return bool(await self._db.execute_fetchall("SELECT 1 FROM products WHERE sku = ? LIMIT 1", (data["sku"],)))

    async def page(self, data: Data) -> list[Product]:
        sql = f"SELECT {_LISTED} FROM products WHERE category = ? ORDER BY sku, id LIMIT ?"
        rows = list(await self._db.execute_fetchall(sql, (data["category"], PAGE_SIZE + 1)))
        return [to_product(row) for row in rows[:PAGE_SIZE]]

    async def delete(self, data: Data) -> bool:
        return bool(await self._db.execute_fetchall("DELETE FROM products WHERE id = ? RETURNING 1", (data["id"],)))

    async def bulk_insert(self, batch: list[Data]) -> list[Product]:
        rows = [to_row(Product(**data)) for data in batch]
        await self._many(_INSERT, rows)
        return [to_product(row) for row in rows]

    async def bulk_upsert(self, batch: list[Data]) -> int:
        await self._many(_UPSERT, [to_row(Product(**data)) for data in batch])
        return len(batch)

    async def _many(self, sql: str, rows: list[tuple[Any, ...]]) -> None:
        async with self._bulk:
            await self._db.execute("BEGIN IMMEDIATE")
            try:
                await self._db.executemany(sql, rows)
            except BaseException:
                await self._db.rollback()
                raise
            await self._db.commit()

    async def _one(self, sql: str, *parameters: Any) -> Product | None:
        rows = list(await self._db.execute_fetchall(sql, parameters))
        return to_product(rows[0]) if rows else None
