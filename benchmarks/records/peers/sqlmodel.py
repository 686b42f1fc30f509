"""SQLModel: its table model, which is a pydantic model as well, in an asynchronous session for each operation."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlmodel import Field, SQLModel, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.db.models.values import utc_now

from ..product import CHANGE, FIELDS, PriceChange, Product
from ..side import PAGE_SIZE, Data, Side
from .sql import Store, engine


class ModelProduct(SQLModel, table=True):
    __tablename__ = "model_products"

    id: str = Field(primary_key=True)
    created_at: datetime = Field(default_factory=utc_now, sa_type=sa.DateTime(timezone=True))
    updated_at: datetime = Field(default_factory=utc_now, sa_type=sa.DateTime(timezone=True))
    sku: str = Field(unique=True)
    name: str
    category: str = Field(index=True)
    price: float
    quantity: int
    is_active: bool = True
    tags: list[str] = Field(sa_type=sa.JSON().with_variant(postgresql.JSONB(), "postgresql"))


_ASSIGNED = [name for name in FIELDS if name not in ("id", "created_at")]


def to_product(row: ModelProduct) -> Product:
    """A table model does not validate what it is made of."""
    return Product.model_validate(row, from_attributes=True)


class SQLModelSide(Side):
    name = "SQLModel"

    def __init__(self, store: Store, place: str) -> None:
        self._engine = engine(store, place)
        self._insert = (postgresql if store == "postgres" else sqlite).insert
        self._session = async_sessionmaker(self._engine, class_=AsyncSession, expire_on_commit=False)

    async def open(self) -> None:
        async with self._engine.begin() as connection:
            await connection.run_sync(ModelProduct.__table__.create)

    async def close(self) -> None:
        await self._engine.dispose()

    async def clear(self) -> None:
        async with self._engine.begin() as connection:
            await connection.execute(sa.delete(ModelProduct))

    async def create(self, data: Data) -> Product:
        row = ModelProduct.model_validate(data)
        async with self._session() as session:
            session.add(row)
            await session.commit()
        return to_product(row)

    async def get(self, data: Data) -> Product | None:
        async with self._session() as session:
            row = await session.get(ModelProduct, data["id"])
        return None if row is None else to_product(row)

    async def get_by_unique_field(self, data: Data) -> Product | None:
        async with self._session() as session:
            row = (await session.exec(select(ModelProduct).where(ModelProduct.sku == data["sku"]))).first()
        return None if row is None else to_product(row)

    async def update(self, data: Data) -> Product | None:
        change = PriceChange(**CHANGE)
        async with self._session() as session:
            row = await session.get(ModelProduct, data["id"])
            if row is None:
                return None
            row.sqlmodel_update({"price": change.price, "updated_at": utc_now()})
            session.add(row)
            await session.commit()
        return to_product(row)

    async def exists(self, data: Data) -> bool:
        async with self._session() as session:
            found = await session.exec(select(ModelProduct.id).where(ModelProduct.sku == data["sku"]).limit(1))
            return found.first() is not None

    async def page(self, data: Data) -> list[Product]:
        statement = select(ModelProduct).where(ModelProduct.category == data["category"])
        statement = statement.order_by(ModelProduct.sku, ModelProduct.id).limit(PAGE_SIZE + 1)
        async with self._session() as session:
            rows = (await session.exec(statement)).all()
        return [to_product(row) for row in rows[:PAGE_SIZE]]

    async def delete(self, data: Data) -> bool:
        async with self._session() as session:
            row = await session.get(ModelProduct, data["id"])
            if row is None:
                return False
            await session.delete(row)
            await session.commit()
            return True

    async def bulk_insert(self, batch: list[Data]) -> list[Product]:
        rows = [ModelProduct.model_validate(data) for data in batch]
        async with self._session() as session:
            session.add_all(rows)
            await session.commit()
        return [to_product(row) for row in rows]

    async def bulk_upsert(self, batch: list[Data]) -> int:
        """It has none of its own; this is the way of SQLAlchemy, below it."""
        values: list[dict[str, Any]] = [ModelProduct.model_validate(data).model_dump() for data in batch]
        insert = self._insert(ModelProduct)
        statement = insert.on_conflict_do_update(
            index_elements=["id"], set_={name: insert.excluded[name] for name in _ASSIGNED}
        )
        async with self._session() as session:
            await session.execute(statement, values)
            await session.commit()
        return len(batch)
