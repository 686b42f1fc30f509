"""The lock of an SQLite file, where several users share it."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

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


# It imports before it becomes another user, who may not read this checkout.
OTHER_USER = """
import os
from pathlib import Path
import sqlalchemy as sa
from app.core.errors import StoreUnavailableError
from app.db.migrations.sql.engine import Interrupt
from app.db.migrations.sql.lock import locked

if os.getuid() == 0:
    os.setuid(65534)
try:
    with locked(sa.create_engine("sqlite://"), Path("app.db"), Interrupt(), wait=1) as announce:
        announce("something")
except StoreUnavailableError as error:
    print(error)
"""


@pytest.mark.parametrize("closed", ["app.db-migrations.lock", "app.db-migrations.running", "."])
def test_files_of_another_user_are_named_with_the_way_out(closed: str) -> None:
    if os.getuid() != 0 and closed.endswith(".running"):
        pytest.skip("whose file it is cannot be told from one's own")
    with TemporaryDirectory() as name:  # pytest's are closed to others
        directory = Path(name)
        (directory / "app.db").touch()
        if closed == ".":
            directory.chmod(0o555)
        else:
            directory.chmod(0o1777)  # as /tmp is: each may make files, and remove only their own
            (directory / closed).touch(0)
        done = subprocess.run(
            [sys.executable, "-c", OTHER_USER], cwd=name, capture_output=True, text=True, check=False, timeout=60
        )
        directory.chmod(0o700)
    named = "app.db-migrations.lock" if closed == "." else closed
    assert done.stdout.startswith(f"{named}, by which one process at a time migrates, cannot be written ("), done.stderr
    assert "migrate as the user who owns it" in done.stdout
