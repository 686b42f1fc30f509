"""Tables of their own metadata, so that the documents' samples may have the same names."""

import enum
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.db.relational import (
    AuditMixin,
    Base,
    SoftDeleteMixin,
    TimestampMixin,
    UUIDMixin,
    VersioningMixin,
)
from app.db.relational.naming import CONVENTION


class Model(Base):
    __abstract__ = True
    metadata = sa.MetaData(naming_convention=CONVENTION)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Author(UUIDMixin, TimestampMixin, SoftDeleteMixin, AuditMixin, Model):
    email: Mapped[str] = mapped_column(unique=True)
    password_hash = sa.Column(sa.String(100))
    books: Mapped[list["Book"]] = relationship(back_populates="author", cascade="all")
    notes: Mapped[list["Note"]] = relationship(cascade="all")


class Book(UUIDMixin, SoftDeleteMixin, Model):
    title: Mapped[str]
    author_id: Mapped[UUID] = mapped_column(sa.ForeignKey("authors.id"))
    author: Mapped[Author] = relationship(back_populates="books")


class Note(UUIDMixin, Model):
    """Is removed for good, as it has no mark."""

    text: Mapped[str]
    author_id: Mapped[UUID] = mapped_column(sa.ForeignKey("authors.id"))


class Rack(UUIDMixin, Model):
    """Can only be removed, and what is on it could be marked."""

    boxes: Mapped[list["Box"]] = relationship(cascade="all, delete-orphan")


class Box(UUIDMixin, SoftDeleteMixin, Model):
    rack_id: Mapped[UUID] = mapped_column(sa.ForeignKey("racks.id"))


class Document(UUIDMixin, TimestampMixin, SoftDeleteMixin, VersioningMixin, Model):
    title: Mapped[str] = mapped_column(sa.TEXT(), unique=True)


class Counter(UUIDMixin, VersioningMixin, Model):
    __keeps_history__ = False

    number: Mapped[int] = mapped_column(default=0)


class Sample(UUIDMixin, Model):
    """A column of each type."""

    moment: Mapped[datetime | None]
    day: Mapped[date | None]
    amount: Mapped[Decimal | None]
    owner: Mapped[UUID | None]
    flag: Mapped[bool | None]
    large: Mapped[int | None]
    ratio: Mapped[float | None]
    raw: Mapped[bytes | None]
    colour: Mapped[Colour | None]
    nested: Mapped[dict[str, Any] | None]
    items: Mapped[list[Any] | None]


class Person(TimestampMixin, VersioningMixin, Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}  # noqa: RUF012 - SQLAlchemy's


class Customer(Person):
    discount: Mapped[int | None]
    __mapper_args__ = {"polymorphic_identity": "customer"}  # noqa: RUF012


class Employee(Person):
    id: Mapped[int] = mapped_column(sa.ForeignKey("persons.id"), primary_key=True)
    salary: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "employee"}  # noqa: RUF012
