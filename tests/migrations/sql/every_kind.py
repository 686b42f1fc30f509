"""A column of every type, and an index and a constraint of every sort: of entities, and of declarative classes."""

import enum
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID, uuid4

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.db import Attributed, Entity, Index, Repository, SoftDeletable, Timestamped, Versioned
from app.db.query import compare
from app.db.relational import AuditMixin, Base, FullModel, TimestampedModel, UUIDMixin, VersioningMixin
from app.db.relational.naming import CONVENTION

METADATA = sa.MetaData(naming_convention=CONVENTION)
"""Of their own, since what is in that of `Base` is every test's."""


class Colour(enum.Enum):
    RED = "red"
    GREEN = "it's :green 5%"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Address(BaseModel):
    street: str
    number: int = 1


class Parcel(Entity, Timestamped, SoftDeletable, Versioned, Attributed):
    text: str
    integer: int
    number: float
    flag: bool
    moment: datetime
    day: date
    amount: Decimal
    owner: UUID = Field(default_factory=uuid4)
    raw: bytes = b"\x00"
    colour: Colour = Colour.RED
    size: Size = Size.SMALL
    word: Literal["a", "b"] = "a"
    address: Address
    items: list[str] = Field(default_factory=list)
    options: dict[str, Any] = Field(default_factory=dict)
    either: int | str = 0
    no_text: str | None = None
    no_integer: int | None = None
    no_number: float | None = None
    no_flag: bool | None = None
    no_moment: datetime | None = None
    no_day: date | None = None
    no_amount: Decimal | None = None
    no_owner: UUID | None = None
    no_raw: bytes | None = None
    no_colour: Colour | None = None
    no_address: Address | None = None
    order: int = 0


class Parcels(Repository[Parcel]):
    keeps_history = True
    audited = True
    indexes = (
        Index("text", unique=True),  # among those that are not deleted
        Index("owner", "order"),
        Index("integer", "day", unique=True, name="one_a_day"),
        Index("moment", "amount", "flag", "number", "colour", "raw", name="many"),
        Index("amount", unique=True, name="dear", where=compare("amount", ">", Decimal("2.5"))),
        Index("no_text", name="odd", where=compare("no_text", "startswith", "it's :odd 100% \\ ")),
    )


class Visit(Entity):
    model_config = ConfigDict(extra="allow")

    place: str


class Visits(Repository[Visit]):
    ttl = 60.0
    indexes = (Index("place", unique=True),)


class Full(FullModel):
    __abstract__ = True
    metadata = METADATA


class Numbered(TimestampedModel):
    __abstract__ = True
    metadata = METADATA


class Model(Base):
    __abstract__ = True
    metadata = METADATA


tags = sa.Table(
    "tags_of_samples",
    METADATA,
    sa.Column("sample_id", sa.ForeignKey("samples.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("tag_id", sa.ForeignKey("tags.id"), primary_key=True),
)


class Tag(Numbered):
    name: Mapped[str] = mapped_column(sa.String(50), unique=True, comment="It's a :name, 100%")
    parent_id: Mapped[int | None] = mapped_column(sa.ForeignKey("tags.id"), index=True)


class Sample(VersioningMixin, Full):
    __audited__ = True
    __table_args__ = (
        sa.UniqueConstraint("text", "long"),
        sa.CheckConstraint("long >= 0", name="positive"),
        sa.Index("by_long", "long", "day"),
        sa.Index("by_text", sa.text("lower(text)")),
        sa.Index("few", "long", sqlite_where=sa.text("long > 5"), postgresql_where=sa.text("long > 5")),
        sa.Index("one", "short", unique=True),
    )

    text: Mapped[str] = mapped_column(unique=True)
    long: Mapped[int]
    number: Mapped[float] = mapped_column(default=0.5)
    flag: Mapped[bool] = mapped_column(default=True)
    moment: Mapped[datetime | None] = mapped_column(index=True)
    day: Mapped[date | None]
    amount: Mapped[Decimal] = mapped_column(default=Decimal("1.50"))
    owner: Mapped[UUID | None]
    raw: Mapped[bytes | None]
    colour: Mapped[Colour] = mapped_column(default=Colour.RED)
    options: Mapped[dict[str, Any]] = mapped_column(default=dict)
    items: Mapped[list[str]] = mapped_column(default=list)
    at: Mapped[time | None]
    span: Mapped[timedelta | None]
    tags: Mapped[list[Tag]] = relationship(secondary=tags)
    # SQLAlchemy's own types.
    short: Mapped[int] = mapped_column(sa.SmallInteger, server_default=sa.text("0"))
    limited: Mapped[str] = mapped_column(sa.String(20), server_default="it's: 5%")
    unlimited: Mapped[str | None] = mapped_column(sa.Text)
    exact: Mapped[Decimal | None] = mapped_column(sa.Numeric(10, 2))
    double: Mapped[float | None] = mapped_column(sa.Double)
    naive: Mapped[datetime | None] = mapped_column(sa.DateTime, server_default=sa.func.current_timestamp())
    aware: Mapped[datetime | None] = mapped_column(sa.DateTime(timezone=True))
    blob: Mapped[bytes | None] = mapped_column(sa.LargeBinary(20))
    plain: Mapped[Any] = mapped_column(sa.JSON)
    binary: Mapped[Any] = mapped_column(sa.JSON().with_variant(postgresql.JSONB(), "postgresql"))
    words: Mapped[Any] = mapped_column(postgresql.ARRAY(sa.Text).with_variant(sa.JSON(), "sqlite"))
    uuid: Mapped[UUID | None] = mapped_column(sa.Uuid)
    uuid_text: Mapped[str | None] = mapped_column(sa.Uuid(as_uuid=False))
    native: Mapped[Colour | None] = mapped_column(sa.Enum(Colour))
    checked: Mapped[Colour | None] = mapped_column(
        sa.Enum(Colour, native_enum=False, create_constraint=True, name="known_colour")
    )
    twice: Mapped[int | None] = mapped_column(sa.Computed("long * 2", persisted=True))


class Person(Model, UUIDMixin):
    kind: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}  # noqa: RUF012 - SQLAlchemy's


class Customer(Person):
    discount: Mapped[int | None]
    __mapper_args__ = {"polymorphic_identity": "customer"}  # noqa: RUF012


class Employee(Person):
    id: Mapped[UUID] = mapped_column(sa.ForeignKey("persons.id"), primary_key=True)
    salary: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "employee"}  # noqa: RUF012


class Entry(Model, AuditMixin):
    """By two columns."""

    book: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)


class Samples(Repository[Sample]): ...
