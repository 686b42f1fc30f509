"""redis-py by hand: JSON strings, a key for each unique value, a set for each category.

A write of a document and its keys is one script, so that it is one step and one exchange.
"""

import json
from typing import Any

from pydantic_core import from_json
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import WatchError

from app.db.models.values import utc_now

from ..product import CHANGE, PriceChange, Product
from ..side import PAGE_SIZE, POOL_SIZE, Data, Side

_CREATE = """
if redis.call('EXISTS', KEYS[1]) == 1 or not redis.call('SET', KEYS[2], ARGV[1], 'NX') then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('SADD', KEYS[3], ARGV[1])
return 1
"""
_BY_SKU = """
local id = redis.call('GET', KEYS[1])
return id and redis.call('GET', ARGV[1] .. id)
"""
_REPLACE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""
_DELETE = """
if redis.call('GET', KEYS[1]) ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('SREM', KEYS[3], ARGV[1])
return 1
"""


def keys(product: Product) -> list[str]:
    return [f"products:{product.id}", f"products.sku:{product.sku}", f"products.category:{product.category}"]


class RawRedis(Side):
    name = "raw"

    def __init__(self, url: str) -> None:
        self._url = url

    async def open(self) -> None:
        pool = BlockingConnectionPool.from_url(self._url, max_connections=POOL_SIZE, decode_responses=True)
        self._redis = Redis.from_pool(pool)
        self._create = self._redis.register_script(_CREATE)
        self._by_sku = self._redis.register_script(_BY_SKU)
        self._replace = self._redis.register_script(_REPLACE)
        self._delete = self._redis.register_script(_DELETE)
        await self.clear()

    async def close(self) -> None:
        await self._redis.aclose()

    async def clear(self) -> None:
        await self._redis.flushdb()

    async def create(self, data: Data) -> Product:
        product = Product(**data)
        text = product.model_dump_json()
        if not await self._create(keys(product), [product.id, text]):
            raise ValueError("the id or the sku is taken")
        return Product.model_validate_json(text)

    async def get(self, data: Data) -> Product | None:
        return _read(await self._redis.get(f"products:{data['id']}"))

    async def get_by_unique_field(self, data: Data) -> Product | None:
        return _read(await self._by_sku([f"products.sku:{data['sku']}"], ["products:"]))

    async def update(self, data: Data) -> Product | None:
        change = PriceChange(**CHANGE)
        key = f"products:{data['id']}"
        while True:
            text = await self._redis.get(key)
            if text is None:
                return None
            new = json.dumps({**json.loads(text), "price": change.price, "updated_at": utc_now().isoformat()})
            if await self._replace([key], [text, new]):
                return Product.model_validate_json(new)

    async def exists(self, data: Data) -> bool:
        return bool(await self._redis.exists(f"products.sku:{data['sku']}"))

    async def page(self, data: Data) -> list[Product]:
        ids = await self._redis.smembers(f"products.category:{data['category']}")
        texts = await self._redis.mget([f"products:{each}" for each in ids])
        found = [from_json(text) for text in texts if text is not None]
        found.sort(key=lambda each: (each["sku"], each["id"]))
        return [Product.model_validate(each) for each in found[:PAGE_SIZE]]

    async def delete(self, data: Data) -> bool:
        key = f"products:{data['id']}"
        while True:
            text = await self._redis.get(key)
            if text is None:
                return False
            product = Product.model_validate_json(text)
            if await self._delete(keys(product), [product.id, text]):
                return True

    async def bulk_insert(self, batch: list[Data]) -> list[Product]:
        products = [Product(**data) for data in batch]
        texts = [product.model_dump_json() for product in products]
        entries, members = _entries(products, texts)
        if not await self._redis.msetnx(entries):
            raise ValueError("an id or a sku is taken")
        await self._add(members)
        return [Product.model_validate_json(text) for text in texts]

    async def bulk_upsert(self, batch: list[Data]) -> int:
        products = [Product(**data) for data in batch]
        names = [keys(product) for product in products]
        documents, skus = [each[0] for each in names], [each[1] for each in names]
        async with self._redis.pipeline() as pipeline:
            while True:
                await pipeline.watch(*documents, *skus)
                present = await pipeline.mget(documents)
                owners = await pipeline.mget(skus)
                if any(owner not in (None, product.id) for owner, product in zip(owners, products, strict=True)):
                    raise ValueError("a sku is taken")
                pipeline.multi()
                for product, text in zip(products, present, strict=True):
                    if text is not None:
                        self._keep(pipeline, product, Product.model_validate_json(text))
                entries, members = _entries(products, [product.model_dump_json() for product in products])
                pipeline.mset(entries)
                for key, ids in members.items():
                    pipeline.sadd(key, *ids)
                try:
                    await pipeline.execute()
                except WatchError:
                    continue
                return len(batch)

    @staticmethod
    def _keep(pipeline: Any, product: Product, old: Product) -> None:
        """What stays of the old one, and what of its index entries does not."""
        product.__dict__["created_at"] = old.created_at
        if old.sku != product.sku:
            pipeline.delete(keys(old)[1])
        if old.category != product.category:
            pipeline.srem(keys(old)[2], old.id)

    async def _add(self, members: dict[str, list[str]]) -> None:
        async with self._redis.pipeline() as pipeline:
            for key, ids in members.items():
                pipeline.sadd(key, *ids)
            await pipeline.execute()


def _entries(products: list[Product], texts: list[str]) -> tuple[dict[Any, Any], dict[str, list[str]]]:
    entries: dict[Any, Any] = {}
    members: dict[str, list[str]] = {}
    for product, text in zip(products, texts, strict=True):
        document, sku, category = keys(product)
        entries[document] = text
        entries[sku] = product.id
        members.setdefault(category, []).append(product.id)
    return entries, members


def _read(text: str | None) -> Product | None:
    return None if text is None else Product.model_validate_json(text)
