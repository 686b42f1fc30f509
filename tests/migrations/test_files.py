"""Files of migrations, and the migrations in them, without any store."""

from pathlib import Path

import pytest

from app.core.errors import ConfigurationError, MigrationError
from app.db import F
from app.db.migrations import Migration, files
from app.db.migrations.steps import RenameField


def test_files_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("010_ten", "9_nine", "011_a", "_helpers"):
        (tmp_path / f"{name}.py").write_text("", "utf-8")
    (tmp_path / "notes.txt").write_text("", "utf-8")
    assert [each.name for each in files.find(tmp_path)] == ["9_nine", "010_ten", "011_a"]
    (tmp_path / "first.py").write_text("", "utf-8")
    with pytest.raises(MigrationError, match=r"first\.py: a migration is called like 001_create_users\.py"):
        files.find(tmp_path)


def test_a_directory_that_is_not_there_has_none(tmp_path: Path) -> None:
    assert files.find(tmp_path / "none") == []


def test_a_new_file_has_the_next_number_and_can_be_loaded(tmp_path: Path) -> None:
    directory = tmp_path / "migrations" / "redis"
    first = files.write_new(directory, 'Create the "users"', files.find(directory))
    second = files.write_new(directory, "2 more", files.find(directory))
    assert [first.name, second.name] == ["001_create_the_users.py", "002_2_more.py"]
    loaded = [files.load(each) for each in files.find(directory)]
    assert [type(each).__name__ for each in loaded] == ["CreateTheUsers", "Migration2More"]
    assert [each.steps_up() for each in loaded] == [[], []]
    with pytest.raises(MigrationError, match="say in a few words"):
        files.write_new(directory, "—", files.find(directory))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_of_that_name", "cannot be imported: ModuleNotFoundError"),
        ("x = ", "cannot be imported: SyntaxError"),
        ("from app.db.migrations import Migration", "has no classes derived from Migration: it needs one"),
        (
            "from app.db.migrations import Migration\nclass A(Migration): ...\nclass B(Migration): ...",
            "has 2 classes derived from Migration",
        ),
    ],
)
def test_a_file_that_is_no_migration(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "001_it.py").write_text(text, "utf-8")
    [file] = files.find(tmp_path)
    with pytest.raises(MigrationError, match=message):
        files.load(file)


class Several(Migration):
    def up(self) -> None:
        self.create_collection("a")
        self.create_index("a", "x", "y", where=F.x > 1)
        self.rename_field("a", "x", "z", batch_size=7)


def test_steps_are_taken_back_in_reverse() -> None:
    migration = Several()
    assert [str(each) for each in migration.steps_up()] == [
        "create the collection a",
        "create the index x_y_index on a (x, y)",
        "rename a.x to z",
    ]
    assert [str(each) for each in migration.steps_down()] == [
        "rename a.z to x",
        "drop the index x_y_index of a",
        "drop the collection a",
    ]
    assert migration.steps_down()[0] == RenameField("a", 7, "z", "x")


def test_a_migration_that_says_too_little() -> None:
    migration = Migration()
    with pytest.raises(NotImplementedError, match="Migration has no up"):
        migration.steps_up()
    with pytest.raises(ConfigurationError, match="an index on users needs a field"):
        migration.create_index("users")
