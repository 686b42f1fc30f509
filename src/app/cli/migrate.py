"""`manystore migrate`: the schemas of all stores, step by step, with one command."""

import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..core.errors import AppError, ConfigurationError
from ..core.utils.logger import get_logger
from ..db.data_layer import DataLayer
from ..db.migrations.conversion import Progress as Conversion
from ..db.migrations.ledger import Status
from ..db.migrations.migrations import Migrations
from ..db.migrations.migrator import Events, Report
from .console import Config, Warnings, as_called, complain, console, run

app = typer.Typer(no_args_is_help=True, help="Bring the schemas of all stores up to date, and back.")

R = TypeVar("R")

Connection = Annotated[
    str | None, typer.Option("--connection", "-n", help="A name under `connections`; by default all with migrations.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the statements or steps, and write nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

_LOGGER = get_logger(Migrations.__module__.rpartition(".")[0])
_COLOURS = {"applied": "green", "pending": "yellow", "running": "cyan"}
_COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
_LEFT = {
    "edited": "restore the file, or take it as it is now with --accept-edits",
    "missing": "restore the file",
}
"""What no repair finishes, and what does."""
_INTERRUPTED = (
    "interrupted: `manystore migrate status` shows how far it came, and what is half done `manystore migrate repair` "
    "finishes"
)


@app.command("new")
def new_command(
    message: Annotated[str, typer.Argument(help="What it does, in a few words; the file is called so.")],
    connection: Connection = None,
    empty: Annotated[bool, typer.Option("--empty", help="On SQL, leave out what models and tables differ by.")] = False,
    config: Config = None,
) -> None:
    """Write a new migration. On SQL it has the difference between the models and the database; look at it."""

    async def work(migrations: Migrations) -> Path:
        path = await migrations.of(_only(migrations, connection)).new(message, autogenerate=not empty)
        migrations.write_alembic_ini()
        return path

    path = _with(config, work)
    console.print(f"wrote {escape(str(path))}", soft_wrap=True)
    console.print(escape(as_called("look at it, then apply it with `manystore migrate up`")), soft_wrap=True)


@app.command("up")
def up_command(
    connection: Connection = None,
    to: Annotated[str | None, typer.Option("--to", help="Stop behind the migration that begins so.")] = None,
    dry_run: DryRun = False,
    config: Config = None,
) -> None:
    """Apply what is pending. Any number of processes may do so at once: each migration is applied once."""

    async def work(migrations: Migrations) -> list[Report]:
        names = [_only(migrations, connection)] if to is not None else _chosen(migrations, connection)
        reports = []
        for name in names:
            with _events(name, "applied") as events:
                reports.append(await migrations.of(name).up(to, dry_run=dry_run, events=events))
        return reports

    _conclude(_with(config, work), dry_run=dry_run)


@app.command("down")
def down_command(
    connection: Connection = None,
    to: Annotated[
        str | None, typer.Option("--to", help="Take back all behind the migration that begins so; `base`: all.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="How many to take back; 1 by default.")] = None,
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    config: Config = None,
) -> None:
    """Take the last migration back, or several, of one connection. What they made goes, with the data in it."""

    async def plan(migrations: Migrations) -> Report:
        return await migrations.of(_only(migrations, connection)).down(to, steps=steps, dry_run=True)

    async def work(migrations: Migrations) -> Report:
        name = _only(migrations, connection)
        with _events(name, "took back") as events:
            return await migrations.of(name).down(to, steps=steps, events=events)

    if not dry_run and not yes:
        planned = _with(config, plan)
        names = ", ".join(name for name, _ in planned.plan)
        if names and not typer.confirm(f"{planned.connection}: take back {names}, and lose what is in it?"):
            raise typer.Exit(1)
    _conclude([_with(config, plan if dry_run else work)], dry_run=dry_run)


@app.command("status")
def status_command(connection: Connection = None, as_json: AsJson = False, config: Config = None) -> None:
    """Show each migration: pending, applied, running, interrupted, failed, edited, or missing its file.

    Exit code 1 when a store cannot tell; the others are shown.
    """

    async def work(migrations: Migrations) -> tuple[list[Status], dict[str, str]]:
        names = _chosen(migrations, connection)
        return await _asked(names, lambda name: migrations.of(name).status())

    found, errors = _with(config, work)
    if as_json:
        typer.echo(json.dumps({"migrations": [asdict(each) for each in found], "errors": errors}, indent=2))
    elif found:
        _print_table(found)
    elif not errors:
        console.print(escape(as_called("no migrations yet: `manystore migrate new` writes the first")), soft_wrap=True)
    if errors:
        if not as_json:
            for name, error in errors.items():
                complain(f"{name}: {error}")
        raise typer.Exit(1)


def _print_table(found: list[Status]) -> None:
    table = Table("connection", box=None, pad_edge=False)
    for name in ("migration", "state", "applied at", "took", "detail"):
        table.add_column(name, overflow="fold")
    for each in found:
        state = f"[{_COLOURS.get(each.state, 'red')}]{each.state}[/]"
        took = "" if each.duration is None else f"{each.duration:.2f} s"
        at = (each.applied_at or "").replace("T", " ").partition(".")[0]
        table.add_row(escape(each.connection), escape(each.name), state, at, took, escape(as_called(each.detail)))
    console.print(table)


@app.command("check")
def check_command(connection: Connection = None, as_json: AsJson = False, config: Config = None) -> None:
    """Exit code 1 when something is pending or half done, or on SQL when models and tables differ."""

    async def work(migrations: Migrations) -> list[str]:
        names = _chosen(migrations, connection)
        problems, errors = await _asked(names, lambda name: migrations.of(name).check())
        return [*problems, *(f"{name}: {error}" for name, error in errors.items())]

    problems = _with(config, work)
    if as_json:
        typer.echo(json.dumps({"ok": not problems, "problems": problems}, indent=2))
    else:
        for each in problems:
            complain(each)
    if problems:
        raise typer.Exit(1)
    if not as_json:
        console.print("all is applied, and nothing differs")


@app.command("repair")
def repair_command(
    connection: Connection = None,
    revert: Annotated[bool, typer.Option("--revert", help="Take back what was interrupted.")] = False,
    accept_edits: Annotated[
        bool, typer.Option("--accept-edits", help="Take the files of applied migrations as they are now.")
    ] = False,
    config: Config = None,
) -> None:
    """Finish what was interrupted or has failed. Exit code 1 when something is left that stands in the way."""

    async def work(migrations: Migrations) -> tuple[list[Report], list[Status]]:
        chosen = [migrations.of(name) for name in _chosen(migrations, connection)]
        reports = []
        for each in chosen:
            with _events() as events:
                reports.append(await each.repair(revert=revert, accept_edits=accept_edits, events=events))
            _tell(reports[-1])
        return reports, [one for each in chosen for one in await each.status() if one.state in _LEFT]

    reports, left = _with(config, work)
    _conclude(reports)
    for each in left:
        complain(f"{each.connection}: {each.name} is {each.state}: {_LEFT[each.state]}")
    if left:
        raise typer.Exit(1)


def _with(config: Path | None, work: Callable[[Migrations], Awaitable[R]]) -> R:
    """Run it with the migrations of a DataLayer. The application's modules are found where the command runs."""
    if "" not in sys.path:
        sys.path.insert(0, "")

    async def inside() -> R:
        async with DataLayer.from_config(config) as data:
            return await work(data.migrations)

    warnings = Warnings()
    _LOGGER.addHandler(warnings)
    try:
        return run(inside(), interrupted=_INTERRUPTED)
    finally:
        _LOGGER.removeHandler(warnings)


def _chosen(migrations: Migrations, connection: str | None) -> list[str]:
    return migrations.connections() if connection is None else [connection]


def _only(migrations: Migrations, connection: str | None) -> str:
    """The one connection that is meant; of several, one has to be named."""
    if connection is not None:
        return connection
    names = migrations.connections() or migrations.possible()
    if len(names) != 1:
        listed = ", ".join(names) or "none that can be migrated"
        raise ConfigurationError(f"say for which connection, with --connection NAME; there is: {listed}")
    return names[0]


async def _asked(names: list[str], ask: Callable[[str], Awaitable[list[R]]]) -> tuple[list[R], dict[str, str]]:
    """The answers of all, and what those said by name that had none."""
    found: list[R] = []
    errors = {}
    for name in names:
        try:
            found += await ask(name)
        except AppError as error:
            errors[name] = str(error).removeprefix(f"{name}: ")
    return found, errors


@contextmanager
def _events(connection: str = "", done: str = "") -> Iterator[Events]:
    """A bar with the time that is left, for each conversion that is under way; and where `done` says what happened to
    it, a line for each migration as soon as it is through, since the next one may fail.
    """
    bars = Progress(*_COLUMNS, console=console, transient=True)
    tasks: dict[tuple[str, str], TaskID] = {}

    def moved(at: Conversion) -> None:
        key = (at.migration, at.step)
        if key not in tasks:
            bars.start()
            tasks[key] = bars.add_task(escape(f"{at.migration}: {at.step}"))
        bars.update(tasks[key], completed=at.done, total=at.total)

    def finished(name: str, _: float) -> None:
        console.print(escape(f"{connection}: {done} {name}"), soft_wrap=True)

    try:
        yield Events(progress=moved, finished=finished if done else None)
    finally:
        if tasks:  # it prints an empty line otherwise
            bars.stop()


def _tell(report: Report) -> None:
    for name, steps in report.plan:
        console.print(f"[bold]{escape(f'{report.connection}: {name}')}[/]", soft_wrap=True)
        for step in steps:
            console.print(escape(f"  {step}"), soft_wrap=True)
    for name in report.applied:
        console.print(escape(f"{report.connection}: applied {name}"), soft_wrap=True)
    for name in report.reverted:
        console.print(escape(f"{report.connection}: took back {name}"), soft_wrap=True)
    for name in report.accepted:
        console.print(escape(f"{report.connection}: took {name} as its file is now"), soft_wrap=True)


def _conclude(reports: list[Report], *, dry_run: bool = False) -> None:
    """What is left to say when all were told of; a plan is told as a whole."""
    if dry_run:
        for each in reports:
            _tell(each)
    if not any(each.plan or each.applied or each.reverted or each.accepted for each in reports):
        console.print("nothing to do")
    elif dry_run:
        console.print("nothing was written", style="dim")
