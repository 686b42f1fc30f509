"""An application with declarative classes and repositories on one connection: its revision makes what it says."""

import asyncio
import json
import sys
from datetime import date
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.db import DataLayer, Repository
from app.db.relational import Base, FullModel, TimestampMixin, VersioningMixin, get_db


class Campaign(FullModel):
    name: Mapped[str] = mapped_column(sa.String(100), unique=True)
    starts: Mapped[date | None]
    budget: Mapped[Decimal] = mapped_column(default=Decimal(0))
    options: Mapped[dict[str, Any]] = mapped_column(default=dict)
    calls: Mapped[list["Call"]] = relationship(back_populates="campaign")


class Call(Base, TimestampMixin, VersioningMixin):
    id: Mapped[int] = mapped_column(primary_key=True)
    campaign_id: Mapped[Any] = mapped_column(sa.ForeignKey("campaigns.id"), index=True)
    seconds: Mapped[int] = mapped_column(sa.CheckConstraint("seconds >= 0"))
    campaign: Mapped[Campaign] = relationship(back_populates="calls")


class Campaigns(Repository[Campaign]): ...


async def main() -> None:
    config, store = json.loads(sys.argv[1]), sys.argv[2]
    config["migrations"]["models"] = []
    async with DataLayer.from_config(config) as data:
        migrator = data.migrations.of(store)
        await migrator.new("create")
        await migrator.up()
        assert await migrator.check() == [], await migrator.check()
        await migrator.down("base")
        await migrator.up()
        assert await migrator.check() == []
        async with get_db() as db:
            campaign = Campaign(name="first")
            campaign.calls.append(Call(seconds=5))
            db.add(campaign)
            await db.commit()
        [found] = await data.repository(Campaigns).find({"name": "first"})
        assert found.id == campaign.id
        path = await migrator.new("nothing")
        assert "op." not in path.read_text().partition("def upgrade")[2], path.read_text()


asyncio.run(main())
