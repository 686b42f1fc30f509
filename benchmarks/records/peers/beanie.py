"""Beanie: its document, which is a pydantic model."""

from datetime import datetime
from typing import Annotated, Any

from beanie import BulkWriter, Document, Indexed, PydanticObjectId, UpdateResponse, init_beanie
from beanie.operators import Set, SetOnInsert
from pydantic import Field
from pymongo import AsyncMongoClient

from app.db.models.values import utc_now

from ..product import CHANGE, PriceChange
from ..side import PAGE_SIZE, POOL_SIZE, Data, Side


class BeanieProduct(Document):
    id: PydanticObjectId
    created_at: datetime = Field(default_factory=utc_now)
    updated_at: datetime = Field(default_factory=utc_now)
    sku: Annotated[str, Indexed(unique=True)]
    name: str
    category: Annotated[str, Indexed()]
    price: float
    quantity: int
    is_active: bool = True
    tags: list[str]

    class Settings:
        name = "products"


class Beanie(Side):
    name = "Beanie"

    def __init__(self, url: str) -> None:
        self._url = url

    async def open(self) -> None:
        self._client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
            self._url, tz_aware=True, maxPoolSize=POOL_SIZE
        )
        await init_beanie(database=self._client["bench_beanie"], document_models=[BeanieProduct])
        await self.clear()

    async def close(self) -> None:
        await self._client.close()

    async def clear(self) -> None:
        await BeanieProduct.delete_all()

    async def create(self, data: Data) -> BeanieProduct:
        return await BeanieProduct(**data).insert()

    async def get(self, data: Data) -> BeanieProduct | None:
        return await BeanieProduct.get(PydanticObjectId(data["id"]))

    async def get_by_unique_field(self, data: Data) -> BeanieProduct | None:
        return await BeanieProduct.find_one(BeanieProduct.sku == data["sku"])

    async def update(self, data: Data) -> BeanieProduct | None:
        change = PriceChange(**CHANGE)
        found: BeanieProduct | None = await BeanieProduct.find_one(
            BeanieProduct.id == PydanticObjectId(data["id"])
        ).update(
            Set({BeanieProduct.price: change.price, BeanieProduct.updated_at: utc_now()}),
            response_type=UpdateResponse.NEW_DOCUMENT,
        )
        return found

    async def exists(self, data: Data) -> bool:
        return await BeanieProduct.find(BeanieProduct.sku == data["sku"]).exists()

    async def page(self, data: Data) -> list[BeanieProduct]:
        found = BeanieProduct.find(BeanieProduct.category == data["category"])
        documents = await found.sort("+sku", "+_id").limit(PAGE_SIZE + 1).to_list()
        return documents[:PAGE_SIZE]

    async def delete(self, data: Data) -> bool:
        result = await BeanieProduct.find_one(BeanieProduct.id == PydanticObjectId(data["id"])).delete()
        return result is not None and result.deleted_count == 1

    async def bulk_insert(self, batch: list[Data]) -> list[BeanieProduct]:
        products = [BeanieProduct(**data) for data in batch]
        await BeanieProduct.insert_many(products)
        return products

    async def bulk_upsert(self, batch: list[Data]) -> int:
        async with BulkWriter(ordered=False) as writer:
            for data in batch:
                values = BeanieProduct(**data).model_dump(exclude={"id", "revision_id"})
                created_at = values.pop("created_at")
                await BeanieProduct.find_one(BeanieProduct.id == PydanticObjectId(data["id"])).update_one(
                    Set(values), SetOnInsert({"created_at": created_at}), upsert=True, bulk_writer=writer
                )
        return len(batch)
