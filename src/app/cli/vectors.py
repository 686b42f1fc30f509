"""`manystore vectors`: collections of vectors, embedded anew, copied and looked at."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress

from ..core.errors import AppError, ConfigurationError
from ..db.data_layer import DataLayer
from ..db.vector.copy import CopyReport, copy
from ..db.vector.description import CollectionDescription, describe
from ..db.vector.providers.db_provider import ENGINES
from ..db.vector.reembed import Estimate, ReembedReport, estimate, reembed
from ..db.vector.store import CollectionVectorStore
from .console import Config, complain, console, progress_bar, run

app = typer.Typer(no_args_is_help=True, help="Look at collections of vectors, embed them anew, copy them.")

Store = Annotated[str, typer.Argument(help="A name under `vector_stores`.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON; docs/vectors.md has its shape.")]


@app.command("list")
def list_command(as_json: Json = False, config: Config = None) -> None:
    """The collection of each store: how it was made, and how many rows it has. Exit code 1 when one is of no use."""

    async def work() -> list[CollectionDescription]:
        async with DataLayer.from_config(config) as data:
            return [await _described(data, name) for name in data.vector_stores.list_vector_stores()]

    _show(run(work()), as_json=as_json)


@app.command("info")
def info_command(store: Store = "documents", as_json: Json = False, config: Config = None) -> None:
    """The collection of one store."""

    async def work() -> CollectionDescription:
        async with DataLayer.from_config(config) as data:
            return await _described(data, store)

    _show([run(work())], as_json=as_json)


@app.command("reembed")
def reembed_command(
    to: Annotated[str, typer.Option("--to", help="A name under `embeddings`.")],
    store: Store = "documents",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    config: Config = None,
) -> None:
    """Embed a store's collection anew beside the old one, and switch. One that was stopped goes on."""

    async def look() -> Estimate:
        async with DataLayer.from_config(config) as data:
            return await estimate(_store(data, store), data.embedding(to))

    async def work() -> tuple[ReembedReport, bool]:
        async with DataLayer.from_config(config) as data:
            with progress_bar() as bar:
                report = await reembed(_store(data, store), data.embedding(to), progress=_advance(bar))
            return report, _embedding_of(data, store) == to

    left = run(look())
    console.print(
        f"{left.texts} of {left.rows} texts to embed with {escape(to)}: {left.characters} characters, "
        f"about {left.tokens} tokens",
        soft_wrap=True,
    )
    if left.texts and not yes:
        if not sys.stdin.isatty():
            complain("nobody is there to be asked: give --yes")
            raise typer.Exit(1)
        typer.confirm("Go on?", abort=True)
    report, configured = run(work(), resumes=True)
    if report.before == report.after:
        console.print(f"{escape(store)} is embedded with {escape(report.after)}: nothing to do", soft_wrap=True)
    else:
        console.print(
            f"{escape(store)} is now embedded with {escape(report.after)}, and was with {escape(report.before)}: "
            f"{report.rows} rows, {report.embedded} of them embedded in this run",
            soft_wrap=True,
        )
    if not configured:
        console.print(f"set `embedding: {escape(to)}` for `vector_stores.{escape(store)}` now", soft_wrap=True)


@app.command("copy")
def copy_command(
    source: Annotated[str, typer.Option("--from", help="A name under `vector_stores`.")],
    target: Annotated[str, typer.Option("--to", help="Another name under `vector_stores`.")],
    delete_others: Annotated[
        bool, typer.Option("--delete-others", help="Delete what the target has and the source has not.")
    ] = False,
    config: Config = None,
) -> None:
    """Copy a collection with its vectors to another store, on whatever engine, and verify the copy. Nothing is
    embedded; what is there already is passed over. Exit code 1 when the two differ in the end.
    """

    async def work() -> CopyReport:
        async with DataLayer.from_config(config) as data:
            with progress_bar() as bar:
                stores = (_store(data, source), _store(data, target))
                return await copy(*stores, delete_others=delete_others, progress=_advance(bar))

    report = run(work(), resumes=True)
    console.print(f"{report.written} rows written, {report.removed} deleted", soft_wrap=True)
    for name, side in ((source, report.source), (target, report.target)):
        console.print(
            f"  {escape(name)}: {side.rows} rows, content {side.digest[:16]}, recall {side.recall:.3f}", soft_wrap=True
        )
    for problem in report.problems:
        complain(problem)
    if report.problems:
        raise typer.Exit(1)


def description_json(found: CollectionDescription) -> dict[str, Any]:
    """`contract` and `staged` are what the collections remember, and null where there is none."""
    told = asdict(found)
    for key, contract in (("contract", found.contract), ("staged", found.staged)):
        told[key] = None if contract is None else contract.to_json()
    return told


def _show(found: list[CollectionDescription], *, as_json: bool) -> None:
    wrong = [each for each in found if each.problem is not None]
    if as_json:
        typer.echo(json.dumps({"ok": not wrong, "stores": [description_json(each) for each in found]}, indent=2))
    else:
        for each in found:
            _print(each)
    for each in wrong:
        complain(f"{each.store}: {each.problem}")
    if wrong:
        raise typer.Exit(1)


def _print(found: CollectionDescription) -> None:
    place = f"{found.engine}, connection {found.connection}, collection {found.collection}"
    console.print(f"[bold]{escape(found.store)}[/]  {escape(place)}", soft_wrap=True)
    contract = found.contract
    if contract is None:
        if found.problem is None:
            console.print("  no collection yet: the first write makes it", style="dim")
        return
    cut = f", cut by {contract.chunker}" if contract.chunker else ""
    told = f"{found.rows} rows, {contract.summary}{cut}"
    console.print(f"  {escape(told)}", soft_wrap=True)
    if contract.moving_to is not None:
        console.print(f"  takes no writes: about to be replaced by {escape(contract.moving_to)}", style="yellow")
    if found.staged is not None:
        told = f"being re-embedded with {found.staged.embedding}: {found.staged_rows} rows so far"
        console.print(f"  {escape(told)}", style="yellow", soft_wrap=True)


def _store(data: DataLayer, name: str) -> CollectionVectorStore:
    store = data.vector_store(name)
    if not isinstance(store, CollectionVectorStore):
        raise ConfigurationError(
            f"the store {name!r} is a {type(store).__name__}, which only its own class can look at"
        )
    return store


async def _described(data: DataLayer, name: str) -> CollectionDescription:
    """What the settings say is known also of a store that they do not allow to be built."""
    section = data.settings.vector_stores.get(name)
    try:
        return await describe(_store(data, name))
    except AppError as error:
        if section is None:
            raise
        kind = data.settings.connections[section.connection].type
        engine = str(ENGINES.get(kind, kind))
        return CollectionDescription(name, engine, section.connection, section.collection or name, problem=str(error))


def _embedding_of(data: DataLayer, store: str) -> str | None:
    section = data.settings.vector_stores.get(store)
    return None if section is None else section.embedding


def _advance(bar: Progress) -> Callable[[str, int, int], None]:
    """A line of its own for each thing that is done, so that each has its own rate."""
    current: list[Any] = ["", None]

    def report(phase: str, done: int, total: int) -> None:
        if phase != current[0]:
            if current[1] is not None:
                bar.remove_task(current[1])
            current[:] = [phase, bar.add_task(phase, total=total or None)]
        bar.update(current[1], completed=done)

    return report
