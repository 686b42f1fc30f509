"""What every command shares: one loop, one way to fail, tables and lines on the terminal."""

import asyncio
import logging
import os
import re
import shlex
from collections.abc import Coroutine, Mapping
from contextvars import ContextVar
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..connections.base import ConnectionHealth
from ..core.errors import AppError
from .interrupt import INTERRUPTED, cancelled_by_interrupt

R = TypeVar("R")

_config: ContextVar[Path | None] = ContextVar("config", default=None)
_COMMAND: Final = re.compile(r"`(manystore [^`]*)`")


def _remember(config: Path | None) -> Path | None:
    _config.set(config)
    return config


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="The YAML file; else MANYSTORE_CONFIG, config/default.yaml or the defaults.",
        callback=_remember,
    ),
]

console = Console(highlight=False)
_errors = Console(stderr=True, highlight=False, soft_wrap=True)
# Its pool tells of each attempt to connect; what comes of them is our error. Without a handler Python would print them.
logging.getLogger("psycopg").addHandler(logging.NullHandler())


def run(work: Coroutine[Any, Any, R], *, resumes: bool = False, interrupted: str = "interrupted") -> R:
    """Run a command to its end. What the library refuses is one line and exit code 1, never a traceback.

    `resumes` says that the same command goes on where an interrupted one stopped; `interrupted` is what else to say.
    """

    async def interruptible() -> R:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - of asyncio.run
        with cancelled_by_interrupt(task):
            return await work

    try:
        return asyncio.run(interruptible())
    except (AppError, OSError, ValueError) as error:
        fail(str(error))
    except (KeyboardInterrupt, asyncio.CancelledError):
        fail("interrupted; the same command goes on where it stopped" if resumes else interrupted, INTERRUPTED)


def fail(message: str, code: int = 1) -> NoReturn:
    complain(message)
    raise typer.Exit(code)


def complain(message: str) -> None:
    _errors.print(f"[bold red]error:[/] {escape(as_called(message))}")


def as_called(text: str) -> str:
    """The text, in which each `manystore …` that it suggests has the --config that this command was called with. The
    library, whose texts they are, does not know of it.
    """
    config = _config.get()
    if config is None:
        return text
    return _COMMAND.sub(lambda command: f"`{command[1]} --config {shlex.quote(str(config))}`", text)


class Warnings(logging.Handler):
    """Shows what a library's logger warns of, which nobody would see otherwise."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        _errors.print(f"[yellow]warning:[/] {escape(as_called(record.getMessage()))}")


def progress_bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def health_json(health: Mapping[str, ConnectionHealth]) -> dict[str, Any]:
    """`{"healthy": …, "connections": {name: {…}}}`; `latency` is in seconds, and null where there was no answer."""
    connections = {
        name: {key: value for key, value in asdict(each).items() if key != "name"} for name, each in health.items()
    }
    return {"healthy": all(each["healthy"] for each in connections.values()), "connections": connections}


def health_table(health: Mapping[str, ConnectionHealth]) -> Table:
    table = Table("connection", "type", "state", "answer", "version", box=None, pad_edge=False)
    table.add_column("detail", overflow="fold")  # a path that is cut short names nothing
    for name, each in health.items():
        state = "[green]healthy[/]" if each.healthy else "[red]unhealthy[/]"
        latency = "" if each.latency is None else f"{each.latency * 1000:.1f} ms"
        table.add_row(escape(name), str(each.type), state, latency, each.server_version or "", escape(each.detail))
    return table


def print_passage(document: Any, score: float, width: int = 300) -> None:
    """A passage with its score and where it stands, cut at a word."""
    source = document.metadata.get("source_path") or document.metadata.get("source") or document.id
    heading = document.metadata.get("heading")
    text = " ".join(document.page_content.split())
    shown = text if len(text) <= width else text[:width].rsplit(" ", 1)[0] + " …"
    place = f"{escape(_near(str(source)))} · {escape(heading)}" if heading else escape(_near(str(source)))
    console.print(f"[bold]{score:.3f}[/]  [cyan]{place}[/]")
    console.print(Padding(escape(shown), (0, 0, 0, 7)))


def _near(path: str) -> str:
    """A path as seen from here, where it lies below."""
    return path.removeprefix(f"{os.getcwd()}{os.sep}")  # noqa: PTH109 - the source is text
