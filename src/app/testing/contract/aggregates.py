"""Pipelines: what a store does of them itself, and what is done with its documents."""

from collections.abc import AsyncGenerator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from ...core.errors import InvalidFilterError
from ...db.models.base import Entity
from ...db.query.pipeline import check_pipeline, run_pipeline
from ...db.repositories.base import Repository
from ..models import Address, Product, Products
from .base import Contract, Place


async def batches_of(documents: list[dict[str, Any]], size: int = 2) -> AsyncGenerator[list[dict[str, Any]], None]:
    for start in range(0, len(documents), size):
        yield documents[start : start + size]


PIPELINES: list[list[dict[str, Any]]] = [
    [],
    [{"$match": {"stock": {"$gt": 1}}}, {"$sort": {"id": 1}}],
    [{"$match": {"address.city": "c1"}}, {"$project": {"name": 1, "city": "$address.city"}}, {"$sort": {"id": 1}}],
    [{"$group": {"_id": "$name", "n": {"$sum": "$price"}, "s": {"$avg": "$sold"}}}, {"$sort": {"_id": -1}}],
    [{"$group": {"_id": {"c": "$address.city", "s": "$stock"}, "n": {"$max": "$id"}}}, {"$sort": {"n": 1}}],
    [{"$unwind": "$tags"}, {"$sortByCount": "$tags"}, {"$sort": {"_id": 1}}],
    [{"$unwind": {"path": "$tags", "preserveNullAndEmptyArrays": True}}, {"$sort": {"id": 1, "tags": 1}}],
    [{"$sort": {"sold": -1, "id": -1}}, {"$skip": 3}, {"$limit": 5}, {"$project": {"id": 0, "sold": 1}}],
    [{"$match": {"stock": 3}}, {"$count": "n"}],
    [{"$match": {"stock": 3}}, {"$count": "n"}, {"$set": {"m": "$n"}}],
    [{"$limit": 7}, {"$skip": 2}, {"$sort": {"id": -1}}],
    [{"$sort": {"stock": 1}}, {"$skip": 3}, {"$limit": 20}, {"$group": {"_id": "$stock", "ids": {"$push": "$id"}}}],
    [
        {"$sort": {"stock": -1, "id": 1}},
        {"$group": {"_id": "$name", "first": {"$first": "$stock"}, "ids": {"$last": "$id"}}},
    ],
    [{"$sort": {"tags": -1, "id": 1}}, {"$limit": 20}, {"$project": {"tags": 1}}],
    [{"$sort": {"address.city": -1, "id": 1}}, {"$limit": 20}, {"$project": {"address": 1}}],
    [{"$match": {"stock": 99}}, {"$count": "n"}],
    [{"$set": {"cost": "$price"}}, {"$match": {"cost": {"$lt": 1.05}}}, {"$sort": {"cost": 1}}],
]


class Reading(Entity):
    at: datetime
    on: date
    amount: Decimal
    key: bytes = b""


class Readings(Repository[Reading]):
    pass


class AggregateContract(Contract):
    @pytest.fixture
    async def products(self, place: Place) -> Products:
        products: Products = place(Products)
        await products.create_many(
            Product(
                id=f"id-{number:03}",
                name=f"n{number % 7}",
                price=number / 10,
                stock=number % 5,
                sold=number if number % 3 else None,
                tags=["even" if number % 2 == 0 else "odd", f"t{number % 3}"][: number % 4],
                address=Address(city=f"c{number % 4}") if number % 5 else None,
            )
            for number in range(60)
        )
        return products

    @pytest.mark.parametrize("pipeline", PIPELINES, ids=str)
    async def test_a_pipeline_gives_what_is_defined(self, products: Products, pipeline: list[dict[str, Any]]) -> None:
        documents = [products.schema.document(each) for each in await products.find(order_by="id")]
        found = await products.aggregate(pipeline)
        _, stages = check_pipeline([{"$skip": 0}, *pipeline], "id", products.schema.fields)
        expected = await run_pipeline(batches_of(documents), stages)
        assert sorted(found, key=repr) == sorted(expected, key=repr)
        if "$sort" in str(pipeline):
            assert found == expected

    async def test_aggregate_checks_before_it_asks(self, products: Products) -> None:
        with pytest.raises(InvalidFilterError, match="did you mean 'price'"):
            await products.aggregate([{"$group": {"_id": None, "n": {"$sum": "$prise"}}}])
        with pytest.raises(InvalidFilterError, match="stock"):
            await products.aggregate([{"$match": {"stok": 1}}])

    async def test_values_come_out_as_the_model_has_them(self, place: Place) -> None:
        readings = place(Readings)
        at, on = datetime(2024, 5, 1, 12, 30, 15, 123000, tzinfo=UTC), date(2024, 5, 1)
        await readings.create_many(Reading(at=at, on=on, amount=Decimal(each), key=b"k") for each in ("0.10", "0.20"))
        group = {"_id": "$on", "at": {"$max": "$at"}, "amount": {"$sum": "$amount"}, "keys": {"$addToSet": "$key"}}
        assert await readings.aggregate([{"$group": group}]) == [
            {"_id": on, "at": at, "amount": Decimal("0.30"), "keys": [b"k"]}
        ]
