"""What every command shares: one loop, one way to fail, tables and lines on the terminal."""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..connections.base import ConnectionHealth
from ..core.errors import AppError

R = TypeVar("R")

console = Console(highlight=False)
_errors = Console(stderr=True, highlight=False, soft_wrap=True)

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def run(work: Coroutine[Any, Any, R]) -> R:
    """Run a command to its end. What the library refuses is one line and exit code 1, never a traceback."""
    try:
        return asyncio.run(work)
    except (AppError, OSError, ValueError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("interrupted; the same command goes on where it stopped", INTERRUPTED)


def fail(message: str, code: int = 1) -> NoReturn:
    _errors.print(f"[bold red]error:[/] {escape(message)}")
    raise typer.Exit(code)


def health_table(health: Mapping[str, ConnectionHealth]) -> Table:
    table = Table("connection", "type", "state", "answer", "version", "detail", box=None, pad_edge=False)
    for name, each in health.items():
        state = "[green]healthy[/]" if each.healthy else "[red]unhealthy[/]"
        latency = "" if each.latency is None else f"{each.latency * 1000:.1f} ms"
        table.add_row(escape(name), str(each.type), state, latency, each.server_version or "", escape(each.detail))
    return table


def passage(text: str, width: int = 300) -> str:
    """A passage in one paragraph, cut at a word."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[:width].rsplit(" ", 1)[0] + " …"
