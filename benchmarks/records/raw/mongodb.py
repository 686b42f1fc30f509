"""pymongo's asynchronous client by hand. Many records are written in a transaction, all or none."""

from typing import Any

from bson import ObjectId
from pymongo import AsyncMongoClient, ReturnDocument, UpdateOne

from app.db.models.values import utc_now

from ..product import CHANGE, PriceChange, Product
from ..side import PAGE_SIZE, POOL_SIZE, Data, Side


def to_document(product: Product) -> dict[str, Any]:
    document = product.model_dump()
    document["_id"] = ObjectId(document.pop("id"))
    return document


def to_product(document: dict[str, Any]) -> Product:
    document["id"] = str(document.pop("_id"))
    return Product.model_validate(document)


class RawMongoDB(Side):
    name = "raw"

    def __init__(self, url: str) -> None:
        self._url = url

    async def open(self) -> None:
        self._client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
            self._url, tz_aware=True, maxPoolSize=POOL_SIZE
        )
        self._products = self._client["bench_raw"]["products"]
        await self.clear()
        await self._products.create_index("sku", unique=True)
        await self._products.create_index("category")

    async def close(self) -> None:
        await self._client.close()

    async def clear(self) -> None:
        await self._products.delete_many({})

    async def create(self, data: Data) -> Product:
        document = to_document(Product(**data))
        await self._products.insert_one(document)
        return to_product(document)

    async def get(self, data: Data) -> Product | None:
        return _read(await self._products.find_one({"_id": ObjectId(data["id"])}))

    async def get_by_unique_field(self, data: Data) -> Product | None:
        return _read(await self._products.find_one({"sku": data["sku"]}))

    async def update(self, data: Data) -> Product | None:
        change = PriceChange(**CHANGE)
        found = await self._products.find_one_and_update(
            {"_id": ObjectId(data["id"])},
            {"$set": {"price": change.price, "updated_at": utc_now()}},
            return_document=ReturnDocument.AFTER,
        )
        return _read(found)

    async def exists(self, data: Data) -> bool:
        return await self._products.find_one({"sku": data["sku"]}, {"_id": 1}) is not None

    async def page(self, data: Data) -> list[Product]:
        cursor = self._products.find({"category": data["category"]}).sort({"sku": 1, "_id": 1}).limit(PAGE_SIZE + 1)
        return [to_product(document) for document in (await cursor.to_list())[:PAGE_SIZE]]

    async def delete(self, data: Data) -> bool:
        return (await self._products.delete_one({"_id": ObjectId(data["id"])})).deleted_count == 1

    async def bulk_insert(self, batch: list[Data]) -> list[Product]:
        documents = [to_document(Product(**data)) for data in batch]
        async with self._client.start_session() as session, await session.start_transaction():
            await self._products.insert_many(documents, ordered=False, session=session)
        return [to_product(document) for document in documents]

    async def bulk_upsert(self, batch: list[Data]) -> int:
        writes = [_upsert(to_document(Product(**data))) for data in batch]
        async with self._client.start_session() as session, await session.start_transaction():
            await self._products.bulk_write(writes, ordered=False, session=session)
        return len(batch)


def _read(document: dict[str, Any] | None) -> Product | None:
    return None if document is None else to_product(document)


def _upsert(document: dict[str, Any]) -> UpdateOne:
    key, created_at = document.pop("_id"), document.pop("created_at")
    return UpdateOne({"_id": key}, {"$set": document, "$setOnInsert": {"created_at": created_at}}, upsert=True)
