"""Of every kind of column, index and companion table: Alembic's own `check` agrees, and the way down leads back."""

import pytest
from alembic import command

from app.core.errors import MigrationError
from app.db.migrations.sql.migrator import SQLMigrator
from app.db.relational import Base

from . import every_kind
from .conftest import Database


async def alembic_check(migrator: SQLMigrator) -> None:
    await migrator.work(lambda run: command.check(migrator._config(run)))


@pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based index:UserWarning")
async def test_down_to_base_and_up_again_leave_the_same_schema(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Base, "metadata", every_kind.METADATA)
    database.models = (every_kind.__name__,)
    async with database.opened() as (_, migrator):
        await migrator.new("everything")
        await migrator.up()
        await alembic_check(migrator)
        assert await migrator.check() == []
        first = database.shape()
        await migrator.down("base")
        assert database.shape() == []
        await migrator.up()
        assert database.shape() == first
        await alembic_check(migrator)
        path = await migrator.new("nothing")
        assert "op." not in path.read_text().partition("def upgrade")[2]
        path.unlink()
        database.execute("ALTER TABLE samples DROP COLUMN unlimited")
        with pytest.raises(MigrationError, match="unlimited"):
            await alembic_check(migrator)
