"""The two SQL stores, an empty database of each, and an application's models in reach."""

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from app.db import DataLayer
from app.db.backends._sqlite_dialect import register_functions
from app.db.migrations.sql.migrator import SQLMigrator
from app.db.relational.base import Base
from app.db.repositories import registry

from . import shop_models


@pytest.fixture(autouse=True)
def _only_own_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests register repositories and declare classes, which a revision would make tables for."""
    targets = registry._classes._targets
    monkeypatch.setattr(registry._classes, "_targets", {name: targets[name] for name in ("user", "signup_session")})
    monkeypatch.setattr(Base, "metadata", sa.MetaData(naming_convention=Base.metadata.naming_convention))


class Database:
    """An empty database, and the directory of an application that migrates it."""

    def __init__(self, store: str, directory: Path, section: dict[str, Any]) -> None:
        self.store = store
        self.directory = directory
        self.section = section
        self.models: tuple[str, ...] = (shop_models.__name__,)
        self.repositories: dict[str, Any] = {
            "user": {"connection": store, "audited": True},
            "signup_session": {"connection": store},
        }

    @property
    def config(self) -> dict[str, Any]:
        return {
            "data_dir": str(self.directory),
            "connections": {self.store: self.section},
            "repositories": self.repositories,
            "migrations": {"path": str(self.directory / "migrations"), "models": list(self.models), "wait": 60},
        }

    @property
    def revisions(self) -> Path:
        return self.directory / "migrations" / self.store

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[tuple[DataLayer, SQLMigrator]]:
        async with DataLayer.from_config(self.config) as data:
            migrator = data.migrations.of(self.store)
            assert isinstance(migrator, SQLMigrator)
            yield data, migrator

    def write(self, name: str, upgrade: str, downgrade: str = "pass", **options: Any) -> Path:
        """Write a revision that follows the one before it by name."""
        before = sorted(path.name for path in self.revisions.glob("*.py"))
        after = repr(before[-1].partition("_")[0]) if before else "None"
        self.revisions.mkdir(parents=True, exist_ok=True)
        path = self.revisions / f"{name}.py"
        path.write_text(
            "from alembic import op\nimport sqlalchemy as sa\n\n"
            f"revision = {name.partition('_')[0]!r}\ndown_revision = {options.get('after', after)}\n"
            "branch_labels = None\ndepends_on = None\n\n\n"
            f"def upgrade():\n    {upgrade.strip()}\n\n\ndef downgrade():\n    {downgrade.strip()}\n"
        )
        return path

    def execute(self, sql: str) -> list[Any]:
        if self.store == "sqlite":
            with contextlib.closing(sqlite3.connect(self.directory / "app.db")) as connection, connection:
                register_functions(connection)
                return connection.execute(sql).fetchall()
        with psycopg.connect(self.section["url"], autocommit=True) as server:
            cursor = server.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def shape(self) -> list[Any]:
        """What the database says of its tables, indexes and types, but for Alembic's own and the ledger."""
        if self.store == "sqlite":
            indexes = "SELECT 'index', tbl_name, name, replace(sql, '\"', ''), '', '' FROM sqlite_master"
            columns = (
                "SELECT 'column', m.name, c.name, c.type, c.\"notnull\" || coalesce(c.dflt_value, ''), c.pk"
                " FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'"
            )
            tables = "SELECT 'table', name, type, strict, wr, ncol FROM pragma_table_list"
            references = (
                'SELECT \'reference\', m.name, f."from", f."table", f."to", f.on_delete'
                " FROM sqlite_master m, pragma_foreign_key_list(m.name) f WHERE m.type = 'table'"
            )
            sql = f"{indexes} WHERE type = 'index' UNION ALL {columns} UNION ALL {tables} UNION ALL {references}"
        else:
            indexes = (
                "SELECT 'index', tablename, indexname, indexdef,"
                " coalesce(obj_description(format('%I.%I', schemaname, indexname)::regclass), ''), ''"
                " FROM pg_indexes WHERE schemaname = current_schema()"
            )
            columns = (
                "SELECT 'column', table_name, column_name, data_type || coalesce(datetime_precision::text, ''),"
                " coalesce(collation_name, '') || is_nullable, coalesce(column_default, '')"
                " FROM information_schema.columns WHERE table_schema = current_schema()"
            )
            constraints = (
                "SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', ''"
                " FROM pg_constraint WHERE connamespace = current_schema()::regnamespace"
            )
            types = (
                "SELECT 'type', typname, string_agg(enumlabel, ' ' ORDER BY enumsortorder), '', '', ''"
                " FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid"
                " WHERE typnamespace = current_schema()::regnamespace GROUP BY typname"
            )
            sql = f"{indexes} UNION ALL {columns} UNION ALL {constraints} UNION ALL {types}"
        own = ("manystore_migrations", "alembic_version", "sqlite_schema", "sqlite_temp_schema")
        return sorted((row for row in self.execute(sql) if row[1] not in own), key=repr)

    def engine(self) -> sa.Engine:
        """For a test's own look: reflection is SQLAlchemy's."""
        if self.store == "sqlite":
            return sa.create_engine(f"sqlite:///{self.directory / 'app.db'}", poolclass=sa.pool.NullPool)
        url = self.section["url"]
        return sa.create_engine(
            "postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=sa.pool.NullPool
        )


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    if request.param == "sqlite":
        return Database("sqlite", tmp_path, {"path": "app.db", "synchronous": "normal"})
    make: Callable[[], str] = request.getfixturevalue("postgres_schemas")
    return Database("postgres", tmp_path, {"url": make(), "pool": {"max_size": 5}})
