"""The lock of an SQLite file, where several users share it."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from filelock import FileLock

from app.db.migrations.sql.engine import Interrupt
from app.db.migrations.sql.lock import announced, locked


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "app.db"
    path.touch()
    path.chmod(0o666)
    return path


def test_who_may_write_the_database_may_take_the_lock(path: Path) -> None:
    with locked(sa.create_engine("sqlite://"), path, Interrupt(), wait=1):
        assert Path(f"{path}-migrations.lock").stat().st_mode & 0o777 == 0o666


def test_who_may_not_take_the_lock_can_ask_all_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(FileLock, "acquire", refused)
    Path(f"{path}-migrations.lock").touch()
    with sa.create_engine("sqlite://").connect() as connection:
        assert announced(connection, path) is None
