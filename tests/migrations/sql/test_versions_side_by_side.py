"""A version of the application whose tables a newer one has migrated meanwhile."""

import pytest

from app.core.errors import MigrationError

from .conftest import Database


async def test_an_older_version_goes_on_beside_columns_that_need_no_value(database: Database) -> None:
    async with database.opened() as (_, migrator):
        await migrator.new("begin")
        await migrator.up()
    database.execute("ALTER TABLE users ADD COLUMN nickname TEXT")
    database.execute("ALTER TABLE users ADD COLUMN rank INTEGER NOT NULL DEFAULT 1")
    async with database.opened() as (data, _):
        users = data.repository("user")
        user = await users.create_user("a@x.io", "anna", "Jo", "Do", "hash")
        assert user is not None
        assert await users.get_user_by_id(user.id) == user
        async with users.transaction() as tx:
            assert await tx.get(user.id) == user
    assert database.execute("SELECT nickname, rank FROM users") == [(None, 1)]


async def test_a_column_that_needs_a_value_is_refused(database: Database) -> None:
    async with database.opened() as (_, migrator):
        await migrator.new("begin")
        await migrator.up()
    database.execute("DROP TABLE users_audit")
    database.execute("DROP TABLE users")
    database.execute("CREATE TABLE users (id TEXT PRIMARY KEY, rank INTEGER NOT NULL)")
    async with database.opened() as (data, _):
        with pytest.raises(MigrationError, match="manystore migrate"):
            await data.repository("user").count()


async def test_without_migrations_it_is_refused(database: Database) -> None:
    async with database.opened() as (data, _):
        await data.repository("user").count()
    database.execute("ALTER TABLE users ADD COLUMN nickname TEXT")
    async with database.opened() as (data, _):
        with pytest.raises(MigrationError, match="nickname"):
            await data.repository("user").count()
