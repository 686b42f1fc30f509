"""pydantic-mongo: its asynchronous repository."""

from datetime import datetime
from typing import Any

from bson import ObjectId
from pydantic import BaseModel, Field
from pydantic_mongo import AsyncAbstractRepository, PydanticObjectId
from pymongo import AsyncMongoClient

from app.db.models.values import utc_now

from ..product import CHANGE, PriceChange
from ..side import PAGE_SIZE, POOL_SIZE, Data, Side


class MongoProduct(BaseModel):
    id: PydanticObjectId
    created_at: datetime = Field(default_factory=utc_now)
    updated_at: datetime = Field(default_factory=utc_now)
    sku: str
    name: str
    category: str
    price: float
    quantity: int
    is_active: bool = True
    tags: list[str]


class MongoProducts(AsyncAbstractRepository[MongoProduct]):
    class Meta:
        collection_name = "products"


class PydanticMongo(Side):
    """It has no partial update: a change reads the record and saves it whole. To save one with an id is an upsert,
    which is what its `create` and `bulk insert` are as well.
    """

    name = "pydantic-mongo"

    def __init__(self, url: str) -> None:
        self._url = url

    async def open(self) -> None:
        self._client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
            self._url, tz_aware=True, maxPoolSize=POOL_SIZE
        )
        self._products = MongoProducts(self._client["bench_pydantic_mongo"])
        await self.clear()
        await self._products.get_collection().create_index("sku", unique=True)
        await self._products.get_collection().create_index("category")

    async def close(self) -> None:
        await self._client.close()

    async def clear(self) -> None:
        await self._products.get_collection().delete_many({})

    async def create(self, data: Data) -> MongoProduct:
        product = MongoProduct(**data)
        await self._products.save(product)
        return product

    async def get(self, data: Data) -> MongoProduct | None:
        return await self._products.find_one_by_id(ObjectId(data["id"]))

    async def get_by_unique_field(self, data: Data) -> MongoProduct | None:
        return await self._products.find_one_by({"sku": data["sku"]})

    async def update(self, data: Data) -> MongoProduct | None:
        change = PriceChange(**CHANGE)
        product = await self._products.find_one_by_id(ObjectId(data["id"]))
        if product is None:
            return None
        product.price, product.updated_at = change.price, utc_now()
        await self._products.save(product)
        return product

    async def exists(self, data: Data) -> bool:
        return await self._products.find_one_by({"sku": data["sku"]}) is not None

    async def page(self, data: Data) -> list[MongoProduct]:
        found = await self._products.find_by(
            {"category": data["category"]}, limit=PAGE_SIZE + 1, sort=[("sku", 1), ("id", 1)]
        )
        return list(found)[:PAGE_SIZE]

    async def delete(self, data: Data) -> bool:
        return bool((await self._products.delete_by_id(ObjectId(data["id"]))).deleted_count)

    async def bulk_insert(self, batch: list[Data]) -> list[MongoProduct]:
        products = [MongoProduct(**data) for data in batch]
        await self._products.save_many(products)
        return products

    async def bulk_upsert(self, batch: list[Data]) -> int:
        await self._products.save_many([MongoProduct(**data) for data in batch])
        return len(batch)
