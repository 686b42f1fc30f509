"""What the contract stores: a model for the operations, and one with a field of each kind for the filters."""

from typing import Annotated, Any

from pydantic import BaseModel, Field, SecretStr

from ..db.backends.base import Index
from ..db.models.base import Attributed, Entity, SoftDeletable, Timestamped, Versioned
from ..db.query.predicates import Compare, Op
from ..db.repositories.base import Repository


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


async def fill(products: Repository[Product], *names: str) -> list[Product]:
    return await products.create_many(Product(id=f"id-{name}", name=name, sku=name) for name in names)


class Note(Entity, Timestamped, SoftDeletable):
    text: str
    body: str = ""


class Notes(Repository[Note]):
    indexes = (Index("text", unique=True),)


class Memo(Entity, Attributed):
    text: str
    views: int = 0


class Memos(Repository[Memo]):
    pass


class Draft(Entity, Timestamped, Versioned, SoftDeletable):
    title: str
    body: str = ""
    views: int = 0


class Drafts(Repository[Draft]):
    indexes = (Index("title", unique=True),)


class AuditedProducts(Products):
    audited = True


class Account(Entity, Timestamped, Versioned, SoftDeletable):
    name: str
    balance: int = 0
    notes: dict[str, Any] = Field(default_factory=dict)
    password_hash: str = ""
    pin: SecretStr | None = None
    token: str = Field("", json_schema_extra={"secret": True})
    phrase: str = Field("", repr=False)


class Accounts(Repository[Account]):
    """With everything that the library does to a record, each declared in one line."""

    indexes = (Index("name", unique=True),)
    keeps_history = True
    audited = True


class Part(Entity):
    number: int = 0
    name: str = ""
    code: bytes = b""
    weight: float | None = None


class Parts(Repository[Part]):
    """Indexes with conditions, of which one is a comparison with the index's own field."""

    indexes = (
        Index("number", where=Compare("number", Op.EQ, 2)),
        Index("name", unique=True, where=Compare("code", Op.EQ, b"\\x61")),
    )
