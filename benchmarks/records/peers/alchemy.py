"""advanced-alchemy: its repository over SQLAlchemy's ORM, a session for each operation."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from advanced_alchemy.base import DefaultBase
from advanced_alchemy.filters import LimitOffset, OrderBy
from advanced_alchemy.repository import SQLAlchemyAsyncRepository
from advanced_alchemy.types import DateTimeUTC
from sqlalchemy import JSON
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.values import utc_now

from ..product import CHANGE, PriceChange, Product
from ..side import PAGE_SIZE, Data, Side
from .sql import Store, engine


class AlchemyProduct(DefaultBase):
    __tablename__ = "alchemy_products"

    id: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(DateTimeUTC(timezone=True))
    updated_at: Mapped[datetime] = mapped_column(DateTimeUTC(timezone=True), onupdate=utc_now)
    sku: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    category: Mapped[str] = mapped_column(index=True)
    price: Mapped[float]
    quantity: Mapped[int]
    is_active: Mapped[bool]
    tags: Mapped[list[str]] = mapped_column(JSON().with_variant(JSONB(), "postgresql"))


class AlchemyProducts(SQLAlchemyAsyncRepository[AlchemyProduct]):
    model_type = AlchemyProduct


def to_product(row: AlchemyProduct) -> Product:
    return Product.model_validate(row, from_attributes=True)


class AdvancedAlchemy(Side):
    name = "advanced-alchemy"

    def __init__(self, store: Store, place: str) -> None:
        self._engine = engine(store, place)
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False)

    async def open(self) -> None:
        async with self._engine.begin() as connection:
            await connection.run_sync(AlchemyProduct.__table__.create)

    async def close(self) -> None:
        await self._engine.dispose()

    async def clear(self) -> None:
        async with self._engine.begin() as connection:
            await connection.execute(AlchemyProduct.__table__.delete())

    async def create(self, data: Data) -> Product:
        row = AlchemyProduct(**Product(**data).model_dump())
        async with self._products() as products:
            return to_product(await products.add(row))

    async def get(self, data: Data) -> Product | None:
        async with self._products() as products:
            row = await products.get_one_or_none(id=data["id"])
            return None if row is None else to_product(row)

    async def get_by_unique_field(self, data: Data) -> Product | None:
        async with self._products() as products:
            row = await products.get_one_or_none(sku=data["sku"])
            return None if row is None else to_product(row)

    async def update(self, data: Data) -> Product:
        row = AlchemyProduct(id=data["id"], price=PriceChange(**CHANGE).price)
        async with self._products() as products:
            return to_product(await products.update(row))

    async def exists(self, data: Data) -> bool:
        async with self._products() as products:
            return await products.exists(sku=data["sku"])

    async def page(self, data: Data) -> list[Product]:
        async with self._products() as products:
            rows = await products.get_many(
                OrderBy("sku"), OrderBy("id"), LimitOffset(PAGE_SIZE + 1, 0), category=data["category"]
            )
            return [to_product(row) for row in rows[:PAGE_SIZE]]

    async def delete(self, data: Data) -> bool:
        async with self._products() as products:
            await products.delete(data["id"])
            return True

    async def bulk_insert(self, batch: list[Data]) -> Sequence[Product]:
        rows = _rows(batch)
        async with self._products() as products:
            return [to_product(row) for row in await products.add_many(rows)]

    async def bulk_upsert(self, batch: list[Data]) -> int:
        rows = _rows(batch)
        async with self._products() as products:
            return len(await products.upsert_many(rows))

    @asynccontextmanager
    async def _products(self) -> AsyncIterator[AlchemyProducts]:
        async with self._sessions() as session:
            # Reading a row again after it was written is what its pages advise to switch off for speed.
            yield AlchemyProducts(session=session, auto_commit=True, auto_refresh=False)


def _rows(batch: list[Data]) -> list[Any]:
    return [AlchemyProduct(**Product(**data).model_dump()) for data in batch]
