"""redis-om: its HashModel, which is what a Redis without modules can hold. Finding by a field needs RediSearch."""

import json
from datetime import datetime
from typing import Any

from aredis_om import Field, HashModel, NotFoundError
from pydantic import field_validator
from redis.asyncio import BlockingConnectionPool, Redis

from app.db.models.values import utc_now

from ..product import CHANGE, PriceChange
from ..side import POOL_SIZE, Data, Side


class OmProduct(HashModel, index=True):
    """A hash has no lists, so the tags are JSON text."""

    id: str = Field(primary_key=True)
    created_at: datetime = Field(default_factory=utc_now)
    updated_at: datetime = Field(default_factory=utc_now)
    sku: str
    name: str
    category: str
    price: float
    quantity: int
    is_active: bool = True
    tags: str

    @field_validator("tags", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return json.dumps(value) if isinstance(value, list) else value

    class Meta:
        global_key_prefix = "bench"
        model_key_prefix = "product"


class RedisOM(Side):
    name = "redis-om"
    lacks = frozenset({"get by unique field", "exists", "page of 50"})

    def __init__(self, url: str) -> None:
        self._url = url

    async def open(self) -> None:
        pool = BlockingConnectionPool.from_url(self._url, max_connections=POOL_SIZE, decode_responses=True)
        self._redis = Redis.from_pool(pool)
        OmProduct._meta.database = self._redis  # noqa: SLF001 - what its class Meta becomes
        await self.clear()

    async def close(self) -> None:
        await self._redis.aclose()

    async def clear(self) -> None:
        await self._redis.flushdb()

    async def create(self, data: Data) -> OmProduct:
        return await OmProduct(**data).save()

    async def get(self, data: Data) -> OmProduct | None:
        return await _get(data["id"])

    async def update(self, data: Data) -> OmProduct | None:
        change = PriceChange(**CHANGE)
        product = await _get(data["id"])
        if product is not None:
            await product.update(price=change.price, updated_at=utc_now())
        return product

    async def delete(self, data: Data) -> bool:
        return await OmProduct.delete(data["id"]) == 1

    async def bulk_insert(self, batch: list[Data]) -> list[OmProduct]:
        products = [OmProduct(**data) for data in batch]
        await OmProduct.add(products)
        return products

    async def bulk_upsert(self, batch: list[Data]) -> int:
        await OmProduct.add([OmProduct(**data) for data in batch])
        return len(batch)


async def _get(pk: str) -> OmProduct | None:
    try:
        return await OmProduct.get(pk)
    except NotFoundError:
        return None
