"""`manystore migrate`: what it prints, what it asks, and how it ends."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app.cli.commands import app

runner = CliRunner()


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "default.yaml").write_text("connections: {sqlite: {path: app.db}}\n")
    return tmp_path


def migrate(*arguments: str, code: int = 0, answer: str | None = None) -> Result:
    done = runner.invoke(app, ["migrate", *arguments], input=answer)
    assert done.exit_code == code, done.output
    return done


def test_the_path_of_a_newcomer(directory: Path) -> None:
    assert "manystore migrate new" in migrate("status").output
    assert "001_create_users.py" in migrate("new", "create users").output.replace("\n", "")
    assert (directory / "alembic.ini").exists()
    assert "pending" in migrate("status").output
    assert "pending" in migrate("check", code=1).output
    shown = migrate("up", "--dry-run").output
    assert "CREATE TABLE" in shown
    assert "nothing was written" in shown
    assert "sqlite: applied 001_create_users" in migrate("up").output
    assert "nothing to do" in migrate("up").output
    assert "nothing differs" in migrate("check").output
    [found] = json.loads(migrate("status", "--json").output)["migrations"]
    assert (found["connection"], found["name"], found["state"]) == ("sqlite", "001_create_users", "applied")
    assert json.loads(migrate("check", "--json").output) == {"ok": True, "problems": []}


def test_taking_back_asks_first(directory: Path) -> None:
    del directory
    migrate("new", "create users")
    migrate("new", "second", "--empty", code=0)
    migrate("up")
    assert "take back 002_second" in migrate("down", answer="n\n", code=1).output
    assert "001_create_users" in migrate("down", "--to", "base", answer="n\n", code=1).output
    assert "applied" in migrate("status").output
    assert "took back 002_second" in migrate("down", answer="y\n").output
    assert "DROP TABLE" in migrate("down", "--dry-run").output
    assert "took back 001_create_users" in migrate("down", "--yes").output
    assert "nothing to do" in migrate("down").output


def test_edits_and_errors_are_one_line(directory: Path) -> None:
    migrate("new", "create users")
    migrate("up")
    path = directory / "migrations" / "sqlite" / "001_create_users.py"
    path.write_text(path.read_text() + "# edited\n")
    done = migrate("up", code=1)
    assert done.output.startswith("error: sqlite: 001_create_users was edited")
    assert done.output.count("\n") == 1
    assert "edited" in migrate("status").output
    done = migrate("repair", code=1)
    assert "nothing to do" in done.output
    assert "error: sqlite: 001_create_users is edited: restore the file, or" in done.output
    assert "took 001_create_users as its file is now" in migrate("repair", "--accept-edits").output
    migrate("up")


def test_what_is_suggested_is_for_the_same_file(directory: Path) -> None:
    (directory / "config" / "default.yaml").rename(directory / "my own.yaml")
    mine = ("--config", "my own.yaml")
    assert "`manystore migrate new --config 'my own.yaml'` writes" in migrate("status", *mine).output
    assert "`manystore migrate up --config 'my own.yaml'`" in migrate("new", "create users", *mine).output
    migrate("up", *mine)
    path = directory / "migrations" / "sqlite" / "001_create_users.py"
    path.write_text(path.read_text() + "# edited\n")
    assert "`manystore migrate repair --accept-edits --config 'my own.yaml'`" in migrate("up", *mine, code=1).output
    (directory / "my own.yaml").rename(directory / "config" / "default.yaml")
    assert "`manystore migrate repair --accept-edits`" in migrate("up", code=1).output


def test_several_connections_want_a_name(directory: Path) -> None:
    (directory / "config" / "default.yaml").write_text(
        "connections: {sqlite: {path: a.db}, other: {type: sqlite, path: b.db}}\n"
    )
    assert "--connection" in migrate("new", "create", code=1).output
    migrate("new", "create", "--connection", "other")
    migrate("new", "create", "-n", "sqlite")
    done = migrate("up").output
    assert "sqlite: applied" in done
    assert "other: applied" in done
    assert "--connection" in migrate("down", "--yes", code=1).output
    assert "leave one of them out" in migrate("down", "-n", "sqlite", "--to", "base", "--steps", "1", code=1).output
    assert "[other]" in (directory / "alembic.ini").read_text() or "[sqlite]" in (directory / "alembic.ini").read_text()
    (directory / "migrations" / "othre").mkdir()
    assert "othre is called like no connection" in migrate("status", code=1).output
    assert "othre" in runner.invoke(app, ["config", "check"]).output
    assert "nowhere" in migrate("status", "-n", "nowhere", code=1).output


def test_a_store_that_is_down_hides_no_other(directory: Path) -> None:
    (directory / "config" / "default.yaml").write_text(
        "connections: {postgres: {url: 'postgresql://127.0.0.1:1/app', timeout: 1}, sqlite: {path: app.db}}\n"
        "repositories: {user: {connection: sqlite}, signup_session: {connection: sqlite}}\n"
    )
    migrate("new", "create users", "-n", "sqlite")
    (directory / "migrations" / "postgres").mkdir()
    done = migrate("status", code=1)
    assert "001_create_users" in done.output
    assert "error: postgres: " in done.output
    found = json.loads(migrate("status", "--json", code=1).output)
    assert [each["state"] for each in found["migrations"]] == ["pending"]
    assert list(found["errors"]) == ["postgres"]
    problems = json.loads(migrate("check", "--json", code=1).output)["problems"]
    assert [each.partition(":")[0] for each in problems] == ["sqlite", "postgres"]


def test_what_was_applied_before_a_failure_is_said(directory: Path) -> None:
    migrate("new", "create users")
    migrate("new", "second", "--empty")
    path = directory / "migrations" / "sqlite" / "002_second.py"
    text = path.read_text()
    path.write_text(text.replace("    pass", "    raise ValueError", 1))
    done = migrate("up", code=1)
    assert done.output.startswith("sqlite: applied 001_create_users\nerror: sqlite: 002_second, line ")
    path.write_text("raise ValueError".join(text.rsplit("pass", 1)))
    migrate("new", "third", "--empty")
    migrate("up")
    done = migrate("down", "--to", "base", "--yes", code=1)
    assert done.output.startswith("sqlite: took back 003_third\nerror: sqlite: 002_second, line ")


def test_a_column_without_a_default_is_warned_of(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (directory / "config" / "default.yaml").write_text(
        "connections: {sqlite: {path: app.db}}\nmigrations: {models: [lamps]}\n"
    )
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    model = "from app.db import Entity\nclass Lamp(Entity):\n    name: str\n"
    (directory / "lamps.py").write_text(model)
    assert "warning" not in migrate("new", "begin").output
    assert "warning" not in migrate("up").output
    (directory / "lamps.py").write_text(model + "    watts: int\n")
    del sys.modules["lamps"]
    assert "warning: lamps.watts has no default: say in the new file" in migrate("new", "watts").output
    del sys.modules["lamps"]
