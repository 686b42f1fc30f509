"""Names that become identifiers of a store: one grammar for all of them, so that a model can move."""

import re

from ...core.errors import ConfigurationError

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}", re.ASCII)  # 63 is PostgreSQL's limit


def check_identifier(name: str) -> str:
    """Return the name if every store can use it; ConfigurationError otherwise."""
    if not _IDENTIFIER.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} cannot name a table, column or index: use letters, digits and '_', beginning with a letter"
        )
    return name


def check_collection(name: str) -> str:
    """As `check_identifier`, and refuse what SQLite keeps for itself."""
    if name.lower().startswith("sqlite_"):
        raise ConfigurationError(f"{name!r} cannot name a collection: 'sqlite_' is SQLite's own")
    return check_identifier(name)
