"""What the peers on SQLAlchemy and Tortoise connect to."""

from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from ..side import POOL_SIZE

Store = Literal["sqlite", "postgres"]


def engine(store: Store, place: str) -> AsyncEngine:
    """An engine on a file, or on the address of a server (`host=…` in its query is the directory of the socket).

    One connection to a file, as every side has: SQLite has one writer.
    """
    if store == "postgres":
        return create_async_engine(
            place.replace("postgresql://", "postgresql+asyncpg://"), pool_size=POOL_SIZE, max_overflow=0
        )
    made = create_async_engine(f"sqlite+aiosqlite:///{place}", pool_size=1, max_overflow=0)

    @sa.event.listens_for(made.sync_engine, "connect")
    def configure(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.close()

    return made
