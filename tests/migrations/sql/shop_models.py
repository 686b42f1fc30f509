"""Models with a field of each kind, and repositories with every sort of index, as an application would have them."""

from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from uuid import UUID

from pydantic import ConfigDict, Field

from app.db import Entity, Index, Repository, SoftDeletable, Timestamped, Versioned
from app.db.query import compare


class Colour(Enum):
    RED = "it's: red"
    GREEN = "green"


class Article(Entity, Timestamped, SoftDeletable, Versioned):
    title: str
    count: int = 0
    share: float = 0.5
    active: bool = True
    published: datetime | None = None
    day: date | None = None
    price: Decimal = Decimal("1.50")
    owner: UUID | None = None
    data: bytes = b""
    tags: list[str] = Field(default_factory=list)
    colour: Colour = Colour.RED
    order: int | None = None


class Articles(Repository[Article]):
    keeps_history = True
    audited = True
    indexes = (
        Index("title", unique=True, name="title_unique"),
        Index("price"),
        Index("price", "order", name="dear", where=compare("price", ">", Decimal("2.5"))),
        Index("colour", name="odd", where=compare("title", "startswith", "it's :odd 100% \\ ")),
        Index("owner", "day"),
    )


class Note(Entity):
    model_config = ConfigDict(extra="allow")

    title: str


class Notes(Repository[Note]):
    ttl = 60.0
    indexes = (Index("title", unique=True, name="title_unique"),)


class Plain(Entity):
    """Without a repository of its own."""

    name: str
