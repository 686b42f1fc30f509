"""What is asked of a repository with a look at the store or its settings."""

from typing import Any

import pytest

from app.core.errors import DuplicateRecordError, InvalidFilterError, UnsupportedOperationError
from app.db import DataLayer, Entity, Repository
from app.db.backends import Index
from app.testing.models import Products, fill


@pytest.fixture
def products(data: DataLayer) -> Products:
    return data.repository(Products)


async def test_lists_of_any_length(products: Products, store: str) -> None:
    await fill(products, *(f"{i:05}" for i in range(3000)))
    ids = [f"id-{i:05}" for i in reversed(range(3000))]
    assert [product.id for product in await products.get_many(ids)] == ids
    assert await products.count({"name": {"$in": [f"{i:05}" for i in range(40_000)]}}) == 3000
    assert await products.count({"stock": {"$nin": list(range(1, 40_000))}}) == 3000
    assert await products.count({"address.city": {"$nin": [str(i) for i in range(5000)]}}) == 3000
    with pytest.raises(InvalidFilterError, match="400"):
        await products.count({"$or": [{"name": str(i)} for i in range(401)]})
    assert await products.count({"$or": [{"name": f"{i:05}"} for i in range(400)]}) == 400
    halves = {"price": {"$in": [i + 0.5 for i in range(401)]}}
    if store in ("redis", "mongodb"):
        assert await products.count(halves) == 0
    else:
        with pytest.raises(UnsupportedOperationError):
            await products.count(halves)


class Left(Entity):
    code: str


class Right(Entity):
    code: str


class Lefts(Repository[Left]):
    indexes = (Index("code", unique=True, name="code_unique"),)


class Rights(Repository[Right]):
    indexes = (Index("code", unique=True, name="code_unique"),)


async def test_two_entities_may_name_an_index_alike(config: dict[str, Any]) -> None:
    for _ in range(2):
        async with DataLayer.from_config(config) as data:
            for repository, model in ((data.repository(Lefts), Left), (data.repository(Rights), Right)):
                repo: Repository[Any] = repository
                await repo.delete_many(None, everything=True)
                await repo.create(model(code="a"))
                with pytest.raises(DuplicateRecordError) as caught:
                    await repo.create(model(code="a"))
                assert caught.value.field == "code"
