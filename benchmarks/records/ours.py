"""The repository of this library, the same code on every store."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from app.db import CachePolicy, DataLayer, Repository, SoftDeletable, Versioned
from app.db.backends import Index

from .product import CHANGE, Product
from .side import MANY, PAGE_SIZE, SINGLE, Data, Side


class Products(Repository[Product]):
    COLLECTION_NAME = "products"
    indexes = (Index("sku", unique=True), Index("category"))


class ManagedProduct(Product, SoftDeletable, Versioned):
    """With timestamps, soft deletes and versions."""


class ManagedProducts(Repository[ManagedProduct]):
    COLLECTION_NAME = "managed_products"
    indexes = Products.indexes


class CachedProducts(Repository[Product]):
    COLLECTION_NAME = "cached_products"
    indexes = Products.indexes
    cache = CachePolicy(ttl=3600)


class Ours(Side):
    name = "manystore"
    repository: ClassVar[type[Repository[Any]]] = Products
    model: ClassVar[type[Product]] = Product
    cache: ClassVar[Mapping[str, str]] = {}

    def __init__(self, store: str, section: Mapping[str, Any], directory: Path) -> None:
        self._config = {
            "data_dir": str(directory),
            "connections": {store: dict(section)},
            "repositories": {self.repository.COLLECTION_NAME: {"connection": store}},
            "cache": dict(self.cache),
        }

    async def open(self) -> None:
        self._data = DataLayer.from_config(self._config)
        self._products: Repository[Any] = self._data.repository(self.repository)
        await self._products.count()

    async def close(self) -> None:
        await self._data.close()

    async def clear(self) -> None:
        await self._products.delete_many(None, everything=True)

    async def create(self, data: Data) -> Product:
        return await self._products.create(self.model(**data))

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
        return await self._products.create_many(self.model(**data) for data in batch)

    async def bulk_upsert(self, batch: list[Data]) -> int:
        return await self._products.upsert_many(self.model(**data) for data in batch)


class Managed(Ours):
    name = "with mixins"
    lacks = frozenset(MANY)
    repository = ManagedProducts
    model = ManagedProduct


class CachedInProcess(Ours):
    """What is read is in the cache already: creating one reads it once."""

    name = "cache in process"
    lacks = frozenset({*SINGLE, *MANY} - {"create", "get"})
    repository = CachedProducts

    async def create(self, data: Data) -> Product:
        created: Product = await super().create(data)
        await self.get(data)
        return created


class CachedInRedis(CachedInProcess):
    name = "cache in Redis"
    cache: ClassVar[Mapping[str, str]] = {"connection": "redis"}
