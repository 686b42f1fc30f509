"""The commands. Each opens a DataLayer, does one thing and closes it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress

from .. import __version__
from ..config import load
from ..config.loader import DEFAULT_FILE
from ..core.errors import AppError
from ..db.data_layer import DataLayer
from ..db.query.predicates import Filter
from ..db.vector.ingest import IngestReport, ingest
from .check import check
from .check import print_report as print_check
from .console import Config, complain, console, fail, health_json, health_table, print_passage, progress_bar, run
from .db import app as db_app
from .demo import demo as run_demo
from .migrate import app as migrate_app
from .vectors import app as vectors_app

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
config_app = typer.Typer(no_args_is_help=True, help="Look at the configuration.")
app.add_typer(config_app, name="config")
app.add_typer(migrate_app, name="migrate")
app.add_typer(db_app, name="db")
app.add_typer(vectors_app, name="vectors")

STARTER = Path(__file__).with_name("starter.yaml")

_SHOWN = 20

Store = Annotated[str, typer.Option("--store", "-s", help="A name under `vector_stores`.")]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """One data layer for agent and chat applications."""
    if version:
        console.print(__version__)
        raise typer.Exit


@app.command("ingest")
def ingest_command(
    paths: Annotated[list[Path], typer.Argument(help="Text and Markdown files, or directories of them.")],
    store: Store = "documents",
    rechunk: Annotated[
        bool, typer.Option("--rechunk", help="Cut and embed anew what an older version has cut otherwise.")
    ] = False,
    config: Config = None,
) -> None:
    """Split, embed and store files. What has not changed since the last time is passed over."""

    async def work() -> IngestReport:
        async with DataLayer.from_config(config) as data:
            with progress_bar() as progress:
                return await ingest(data.vector_store(store), paths, progress=advance(progress), rechunk=rechunk)

    print_report(run(work(), resumes=True))


@app.command("search")
def search_command(
    question: Annotated[str, typer.Argument(help="What to look for, in plain words.")],
    k: Annotated[int, typer.Option("-k", min=1, help="How many passages.")] = 5,
    conditions: Annotated[
        list[str] | None,
        typer.Option("--filter", "-f", help='`field=value`, or a filter such as {"page": {"$gt": 3}}; all must hold.'),
    ] = None,
    store: Store = "documents",
    config: Config = None,
) -> None:
    """Find the passages nearest in meaning, with their similarity from 0 to 1."""
    where = _filter(conditions or [])

    async def work() -> list[tuple[Any, float]]:
        async with DataLayer.from_config(config) as data:
            return await data.vector_store(store).search_with_scores(question, k=k, filter_criteria=where)

    found = run(work())
    if not found:
        console.print("nothing found")
    for document, score in found:
        print_passage(document, score)


@app.command("health")
def health_command(
    config: Config = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object; the quick start has its shape.")
    ] = False,
) -> None:
    """Ask every configured connection for a sign of life; exit code 1 when one gives none."""

    async def work() -> dict[str, Any]:
        async with DataLayer.from_config(config) as data:
            return await data.health()

    health = run(work())
    if as_json:
        typer.echo(json.dumps(health_json(health), indent=2))
    else:
        console.print(health_table(health))
    if not all(each.healthy for each in health.values()):
        raise typer.Exit(1)


@app.command("init")
def init_command(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = DEFAULT_FILE,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write a commented YAML file to start from. It says what holds without it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(STARTER.read_text("utf-8"))
    except FileExistsError:
        fail(f"{path} is already there: give another path, or --force to write over it")
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror}")
    found = path == DEFAULT_FILE
    console.print(f"wrote {escape(str(path))}", soft_wrap=True)
    how = "it is used by whatever runs in this directory" if found else f"use it with MANYSTORE_CONFIG={path}"
    console.print(escape(how), soft_wrap=True)


@config_app.command("check")
def config_check_command(config: Config = None) -> None:
    """Resolve file and environment without connecting; exit code 1 when something is wrong."""
    try:
        report = check(load(config))
    except (AppError, OSError, ValueError) as error:
        fail(str(error))
    print_check(report)
    for problem in report.problems[:-1]:
        complain(problem)
    if report.problems:
        fail(report.problems[-1])


@app.command("demo")
def demo_command() -> None:
    """A signup conversation, a user, documents and questions, on the embedded default."""
    run(run_demo())


def advance(progress: Progress) -> Callable[[int, int, Path], None]:
    task = progress.add_task("reading", total=None)

    def report(done: int, total: int, path: Path) -> None:
        progress.update(task, completed=done, total=total, description=escape(path.name))

    return report


def print_report(report: IngestReport) -> None:
    console.print(
        f"{report.added} added, {report.updated} updated, {report.unchanged} unchanged, "
        f"{len(report.skipped)} skipped; {report.chunks} passages written"
    )
    for each in report.skipped:
        name = str(each.path).encode(errors="backslashreplace").decode()
        console.print(f"  skipped {escape(name)}: {escape(each.reason)}", style="dim")
    if report.left:
        console.print(
            f"{len(report.left)} left as another version has cut them: ingest all sources of the collection in one run "
            "with --rechunk, which is asked for until then; delete what has none any more by `delete_by_document_id`",
            style="yellow",
            soft_wrap=True,
        )
    for path in report.left[:_SHOWN]:
        console.print(f"  left {escape(path)}", style="dim", soft_wrap=True)
    if len(report.left) > _SHOWN:
        console.print("  left …", style="dim")


def _filter(conditions: list[str]) -> Filter:
    """Read conditions; a value that is JSON is that value, so `page=3` is a number and `page="3"` text."""
    terms: list[Any] = []
    for condition in conditions:
        if condition.lstrip().startswith("{"):
            try:
                terms.append(json.loads(condition))
            except json.JSONDecodeError as error:
                raise typer.BadParameter(f"not JSON: {error}", param_hint="--filter") from None
            continue
        name, equals, text = condition.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{condition!r} is not field=value", param_hint="--filter")
        terms.append({name.strip(): _value(text)})
    return {"$and": terms} if terms else None


def _value(text: str) -> Any:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    return text if isinstance(value, dict | list) else value
