"""A model with a field of each common kind, for the tests of the operations."""

from typing import Annotated

from pydantic import BaseModel, Field

from app.db import Entity, Repository
from app.db.backends import Index


class Address(BaseModel):
    city: str = ""
    zip_code: str = Field("", alias="zipCode")


class Product(Entity):
    name: str
    sku: str | None = None
    price: float = 0.0
    stock: Annotated[int, Field(ge=0, le=1000)] = 0
    sold: int | None = None
    tags: list[str] = Field(default_factory=list)
    address: Address | None = None


class Products(Repository[Product]):
    indexes = (Index("sku", unique=True), Index("name", "price", unique=True, name="offer"), Index("price"))


async def fill(products: Products, *names: str) -> list[Product]:
    return await products.create_many(Product(id=f"id-{name}", name=name, sku=name) for name in names)
