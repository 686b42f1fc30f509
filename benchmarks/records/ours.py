"""The repository of this library, the same code on every store."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.db import DataLayer, Repository
from app.db.backends import Index

from .product import CHANGE, Product
from .side import PAGE_SIZE, Data, Side


class Products(Repository[Product]):
    COLLECTION_NAME = "products"
    indexes = (Index("sku", unique=True), Index("category"))


class Ours(Side):
    name = "manystore"

    def __init__(self, store: str, section: Mapping[str, Any], directory: Path) -> None:
        self._config = {
            "data_dir": str(directory),
            "connections": {store: dict(section)},
            "repositories": {"products": {"connection": store}},
        }

    async def open(self) -> None:
        self._data = DataLayer.from_config(self._config)
        self._products = self._data.repository(Products)
        await self._products.count()

    async def close(self) -> None:
        await self._data.close()

    async def clear(self) -> None:
        await self._products.delete_many(None, everything=True)

    async def create(self, data: Data) -> Product:
        return await self._products.create(Product(**data))

    async def get(self, data: Data) -> Product | None:
        return await self._products.get(data["id"])

    async def get_by_unique_field(self, data: Data) -> Product | None:
        return await self._products.find_one({"sku": data["sku"]})

    async def update(self, data: Data) -> Product | None:
        return await self._products.update(data["id"], CHANGE)

    async def exists(self, data: Data) -> bool:
        return await self._products.exists({"sku": data["sku"]})

    async def page(self, data: Data) -> Sequence[Product]:
        page = await self._products.page({"category": data["category"]}, order_by="sku", size=PAGE_SIZE)
        return page.items

    async def delete(self, data: Data) -> bool:
        return await self._products.delete(data["id"], hard=True)

    async def bulk_insert(self, batch: list[Data]) -> Sequence[Product]:
        return await self._products.create_many([Product(**data) for data in batch])

    async def bulk_upsert(self, batch: list[Data]) -> int:
        return await self._products.upsert_many([Product(**data) for data in batch])
