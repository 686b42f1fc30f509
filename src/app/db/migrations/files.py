"""The files of migrations: one directory for each connection, one file and class for each migration, in order of name.

`migrations/mongodb/001_create_users.py`. A file that lies in `migrations/` itself says its connection in the class.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from itertools import pairwise
from pathlib import Path
from types import CodeType, ModuleType

from ...core.errors import MigrationError
from .migration import Migration

_NAME = re.compile(r"(\d{1,14})_([a-z0-9_]+)")

TEMPLATE = '''\
"""{message}"""

from app.db.migrations import Migration


class {class_name}(Migration):
    def up(self) -> None:
        """Say the steps, such as self.create_index("users", "email", unique=True)."""

    # Without a down(self) the steps of up are taken back in reverse.
'''


@dataclass(frozen=True, slots=True)
class MigrationFile:
    path: Path
    checksum: str

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def number(self) -> int:
        return int(self.name.partition("_")[0])


def find(directory: Path) -> list[MigrationFile]:
    """The files of one directory, first to last. MigrationError for names that have no order."""
    files = [
        MigrationFile(path, checksum(path))
        for path in directory.glob("*.py")
        if not path.name.startswith("_") and path.is_file()
    ]
    for each in files:
        if not _NAME.fullmatch(each.name):
            raise MigrationError(f"{each.path}: a migration is called like 001_create_users.py")
    files.sort(key=lambda each: (each.number, each.name))
    for first, second in pairwise(files):
        if first.number == second.number:
            raise MigrationError(f"{first.path} and {second.path.name} have the same number: give one of them another")
    return files


def checksum(path: Path) -> str:
    """SHA-256 of the text, whatever its line ends."""
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


class _SourceLoader(SourceFileLoader):
    """Python keeps what it compiled by second and size, and would run the old text of a file corrected within one."""

    def get_code(self, fullname: str) -> CodeType:
        del fullname
        code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code


def load(file: MigrationFile) -> Migration:
    """The migration that the file defines; MigrationError where it has none, or several, or cannot be imported."""
    name = f"manystore_migration_{file.name}"
    loader = _SourceLoader(name, str(file.path))
    module = ModuleType(name)
    module.__file__ = str(file.path)
    try:
        loader.exec_module(module)
    except Exception as error:
        raise MigrationError(f"{file.path} cannot be imported: {type(error).__name__}: {error}") from error
    classes = [
        each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, Migration) and each.__module__ == module.__name__
    ]
    if len(classes) != 1:
        raise MigrationError(f"{file.path} has {len(classes) or 'no'} classes derived from Migration: it needs one")
    return classes[0]()


def write_new(directory: Path, message: str, known: Iterable[MigrationFile]) -> Path:
    """Write an empty migration with the next number."""
    words = re.findall(r"[a-z0-9]+", message.lower())
    if not words:
        raise MigrationError("say in a few words what the migration does, such as 'create users'")
    number = max((each.number for each in known), default=0) + 1
    path = directory / f"{number:03}_{'_'.join(words)}.py"
    class_name = "".join(map(str.capitalize, words))
    class_name = class_name if class_name[0].isalpha() else f"Migration{class_name}"
    directory.mkdir(parents=True, exist_ok=True)
    text = TEMPLATE.format(message=message.strip().replace("\\", "\\\\").replace('"', "'"), class_name=class_name)
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
    return path
