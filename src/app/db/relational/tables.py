"""Tables as a whole, without a session."""

import sqlalchemy as sa

from .base import Base
from .current import engines
from .schema_lock import lock_schema


async def create_all(metadata: sa.MetaData = Base.metadata) -> None:
    """Create the tables that are not there, on the current layer's connection; those that are there are left alone.

    Processes that do so at once, or whose repositories make tables meanwhile, wait for each other.
    """
    async with engines().async_engine.begin() as connection:
        await connection.run_sync(lock_schema)
        await connection.run_sync(metadata.create_all)


async def drop_all(metadata: sa.MetaData = Base.metadata) -> None:
    """Drop the tables with everything in them."""
    async with engines().async_engine.begin() as connection:
        await connection.run_sync(metadata.drop_all)
