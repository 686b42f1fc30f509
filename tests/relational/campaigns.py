"""Classes with everything that the library does to a row, and a repository of theirs."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.db import Repository
from app.db.relational import Base, FullModel, VersioningMixin
from app.db.relational.naming import CONVENTION

from .worlds import World

METADATA = sa.MetaData(naming_convention=CONVENTION)
"""Of their own, so that the documents' samples may have the same names."""


class Model(FullModel):
    __abstract__ = True
    metadata = METADATA


class Plain(Base):
    __abstract__ = True
    metadata = METADATA


class Campaign(VersioningMixin, Model):
    __audited__ = True

    name: Mapped[str] = mapped_column(sa.String(40), unique=True)
    budget: Mapped[Decimal] = mapped_column(default=Decimal("1.5"))
    clicks: Mapped[int] = mapped_column(default=lambda: 7)
    tags: Mapped[list[str]] = mapped_column(default=list)
    secret: Mapped[str | None] = mapped_column(info={"secret": True})
    region: Mapped[str | None] = mapped_column(server_default="north")
    doubled: Mapped[int | None] = mapped_column(sa.Computed("clicks * 2", persisted=True))
    touched: Mapped[int | None] = mapped_column(default=0, onupdate=5)
    begins: Mapped[datetime | None] = mapped_column(sa.DateTime, default=datetime(2026, 1, 2, 3, 4, 5, 678000))  # noqa: DTZ001
    slug: Mapped[str | None] = mapped_column(default=lambda context: context.get_current_parameters()["name"].lower())
    placards: Mapped[list["Placard"]] = relationship(back_populates="campaign")


class Campaigns(Repository[Campaign]):
    pass


class Placard(Plain):
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    campaign_id: Mapped[UUID | None] = mapped_column(sa.ForeignKey(Campaign.id))
    campaign: Mapped[Campaign | None] = relationship(back_populates="placards")


@pytest.fixture
def campaigns(world: World) -> Campaigns:
    return world.data.repository(Campaigns)
