"""The record that every side stores, and the data it is made of."""

import itertools
from typing import Any

from pydantic import BaseModel

from app.db import Entity
from app.db.models.base import Timestamped, new_object_id

CATEGORY_SIZE = 100
"""Records of one category, which a page is a half of."""

_numbers = itertools.count(1)


class Product(Timestamped, Entity):
    """Three texts, a float, an integer, a boolean, a list and two datetimes, beside the id."""

    sku: str
    name: str
    category: str
    price: float
    quantity: int
    is_active: bool = True
    tags: list[str]


class PriceChange(BaseModel):
    """What a change of the price has to be validated as, where the library does not know the model's fields."""

    price: float


FIELDS = tuple(Product.model_fields)
CHANGE = {"price": 24.5}


def new_data(count: int) -> list[dict[str, Any]]:
    """Plain data as it comes from a request, each with an id of its own: no side makes one."""
    return [_one(next(_numbers)) for _ in range(count)]


def _one(number: int) -> dict[str, Any]:
    return {
        "id": new_object_id(),
        "sku": f"SKU-{number:08}",
        "name": f"Product number {number}",
        "category": f"category-{number // CATEGORY_SIZE:06}",
        "price": 9.75 + number % 100,
        "quantity": number % 1000,
        "is_active": number % 10 != 0,
        "tags": ["tools", "garden", f"tag-{number % 7}"],
    }
