"""The settings of an application that has no file: everything embedded, and the database that its environment names."""

import re
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from ..core.errors import ConfigurationError
from .settings import ConnectionSettings, PostgresSettings, Settings, SQLiteSettings

DATABASE_VARIABLE: Final = "DATABASE_URL"

_SQLITE = re.compile(r"sqlite(?:\+\w+)?://(?:/(?P<path>[^?]*))?(?P<query>\?.*)?")


def defaults(database_url: str | None) -> Settings:
    """The built-in defaults. `sqlite:///app.db` is another file for SQLite, relative to the working directory, as
    SQLAlchemy has it; any other url is a connection `postgres` besides.
    """
    settings = Settings()
    if not database_url:
        return settings
    sqlite = _SQLITE.fullmatch(database_url)
    if sqlite is None:
        given: dict[str, ConnectionSettings] = {"postgres": PostgresSettings(url=SecretStr(database_url))}
    elif sqlite["query"]:
        raise ConfigurationError(f"{DATABASE_VARIABLE}: a sqlite url has no options here; `connections` has settings")
    else:
        path = sqlite["path"] or ":memory:"
        given = {"sqlite": SQLiteSettings(path=Path(path) if path == ":memory:" else Path(path).absolute())}
    return settings.model_copy(update={"connections": {**settings.connections, **given}})
