"""The rules that the tree keeps, read from its syntax and from fresh interpreters."""

import ast
import importlib
import os
import pkgutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import app
from app.core.registry import Registry

PACKAGE = Path(app.__file__).parent
TESTS = Path(__file__).parent

# From the ground up. A module imports its own rank or a lower one.
RANKS = (
    ("core",),
    ("config",),
    ("db.models", "db.query"),
    ("connections",),
    ("db.backends", "db.cache", "db.statistics", "db.vector"),
    ("db.middleware",),
    ("db.repositories",),
    ("db.relational", "db.migrations"),
    ("db.data_layer",),
    ("integrations", "testing"),
    ("cli",),
)
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}
# The package itself has a version only; `app.db` gives out names of the layers below the data layer, and its own.
FACADES = {"": 0, "db": RANK["db.data_layer"]}

DRIVERS = (
    *("sqlalchemy", "numpy", "langchain_core", "qdrant_edge", "wordllama", "pymongo", "psycopg", "redis", "aiosqlite"),
    *("typer", "rich", "chromadb", "qdrant_client"),
)

# Where an error is carried to somebody else, or others come first. A handler that ends in `raise` needs no entry.
BROAD_EXCEPTS = {
    "core.sync.bridge:Held._hold",  # carried to the caller
    "core.sync.bridge:_Feed._read",  # carried to the caller
    "core.sync.portal:_Call._run",  # carried to the caller
    "connections.closing:close_each",  # raised after the others are closed
    "connections.owner_thread:Job.run",  # carried to the caller
    "connections.owner_thread:OwnerThread._main",  # carried to those who wait for the opening; logged when closing
    "connections.owner_thread:OwnerThread._serve",  # carried to the callers of the batch
    "connections._server:ServerConnectionManager._run",  # a read is tried once more, and its error raised
    "connections._sqlite_commit:commit_together",  # carried to the callers of the group
    "db.relational.sqlite_async:_run",  # carried to the caller
    "connections._chroma_embedded:ChromaEngine._run",  # a Rust panic, carried to the caller
    "connections._qdrant_embedded:QdrantEngine._run",  # a Rust panic, carried to the caller
}


def parse(path: Path) -> ast.Module:
    text = path.read_text("utf-8")
    while True:
        try:
            return ast.parse(text)
        except SystemError:
            time.sleep(0.01)


def modules() -> dict[str, Path]:
    """Dotted name below the package → file."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def rank(module: str) -> int | None:
    if module in FACADES:
        return FACADES[module]
    return next((RANK[name] for name in RANK if module == name or module.startswith(f"{name}.")), None)


def imports(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The line and target, below the package, of every relative import; those for type checking count as well."""
    package = module.split(".") if MODULES[module].name == "__init__.py" else module.split(".")[:-1]
    package = [part for part in package if part]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
            target = ".".join(part for part in base if part)
            for alias in node.names:
                below = f"{target}.{alias.name}" if target else alias.name
                yield node.lineno, below if below in MODULES else target


@pytest.mark.parametrize("module", MODULES)
def test_every_module_imports_its_own_rank_or_a_lower_one(module: str) -> None:
    own = rank(module)
    assert own is not None, f"{module} has no rank: give it one here"
    tree = parse(MODULES[module])
    upward = {f"line {line}: {target}" for line, target in imports(module, tree) if (rank(target) or 0) > own}
    assert upward == set()


def test_the_rank_test_sees_an_upward_import() -> None:
    tree = ast.parse("if TYPE_CHECKING:\n    from ..connections import base\n\ndef f():\n    from .. import cli\n")
    assert sorted(imports("core.registry", tree)) == [(2, "connections.base"), (5, "cli" if "cli" in MODULES else "")]


@pytest.mark.parametrize("module", MODULES)
def test_imports_inside_the_package_are_relative(module: str) -> None:
    absolute = set()
    for node in ast.walk(parse(MODULES[module])):
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        absolute |= {name for name in names if name.partition(".")[0] in {"app", "src"}}
    assert absolute == set()


def test_importing_the_data_layer_loads_no_driver() -> None:
    for statement in ("import app.db", "from app.db import DataLayer"):
        code = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
        loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
        assert set(loaded) & set(DRIVERS) == set(), statement


def test_importing_the_data_layer_is_quick() -> None:
    assert statistics.median(cpu_seconds("import app.db") for _ in range(5)) <= 0.4


def cpu_seconds(code: str) -> float:
    """User and system time of a fresh interpreter, its own start included."""
    process = subprocess.Popen([sys.executable, "-c", code])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


@pytest.mark.parametrize("path", [*MODULES.values(), *TESTS.rglob("*.py")], ids=str)
def test_no_file_is_past_400_lines(path: Path) -> None:
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= 400


def test_broad_excepts_stand_where_they_are_allowed() -> None:
    found = {f"{module}:{place}" for module, path in MODULES.items() for place in broad_excepts(parse(path), "")}
    assert found - BROAD_EXCEPTS == set()
    assert {each for each in BROAD_EXCEPTS - found if each.partition(":")[0] in MODULES} == set(), "allowed, not used"


def broad_excepts(node: ast.AST, place: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from broad_excepts(child, f"{place}.{child.name}".lstrip("."))
            continue
        if isinstance(child, ast.ExceptHandler) and not isinstance(child.body[-1], ast.Raise):
            kinds = child.type.elts if isinstance(child.type, ast.Tuple) else [child.type]
            if any(kind is None or ast.unparse(kind) in {"Exception", "BaseException"} for kind in kinds):
                yield place
        yield from broad_excepts(child, place)


def test_every_import_string_of_the_registries_resolves() -> None:
    registries: dict[int, Registry[object]] = {}
    for name in (info.name for info in pkgutil.walk_packages([str(PACKAGE)], "app.")):
        if name.endswith(".__main__"):  # runs the command
            continue
        for value in vars(importlib.import_module(name)).values():
            if isinstance(value, Registry):
                registries[id(value)] = value
    assert registries
    for registry in registries.values():
        assert {name: callable(registry.get(name)) for name in registry.names()} == dict.fromkeys(
            registry.names(), True
        )
