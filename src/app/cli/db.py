"""`manystore db`: what keeps stores in order."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from ..db.data_layer import DataLayer
from ..db.statistics.base import IndexStatistics, StoreState, StoreStatistics
from .console import Config, complain, console, run

app = typer.Typer(no_args_is_help=True, help="Look after the stores.")

_COLOURS = {StoreState.OK: "green", StoreState.UNAVAILABLE: "red", StoreState.NOT_CONFIGURED: "yellow"}
_UNKNOWN = "?"


@app.command("stats")
def stats_command(
    connections: Annotated[
        list[str] | None, typer.Argument(help="Names under `connections`; all of them where none is given.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object; docs/maintenance.md has its shape.")
    ] = False,
    config: Config = None,
) -> None:
    """Sizes, rows, indexes and the pool of each store. Nothing is written; exit code 1 when one gives no answer."""

    async def work() -> dict[str, StoreStatistics]:
        async with DataLayer.from_config(config) as data:
            return await data.statistics(*connections or ())

    found = run(work())
    # One that is not configured is no fault, unless it was asked for.
    wrong = [
        each
        for each in found.values()
        if each.state is StoreState.UNAVAILABLE or (connections and each.state is not StoreState.OK)
    ]
    if as_json:
        typer.echo(json.dumps({"ok": not wrong, "connections": statistics_json(found)}, indent=2))
    else:
        _print(found.values())
    for each in wrong:
        complain(f"{each.connection}: {each.error}")
    if wrong:
        raise typer.Exit(1)


def statistics_json(found: Mapping[str, StoreStatistics]) -> dict[str, Any]:
    """`{name: {…}}`; what is unknown is null."""
    return {
        name: {key: value for key, value in asdict(each).items() if key != "connection"} for name, each in found.items()
    }


def _print(found: Iterable[StoreStatistics]) -> None:
    for each in found:
        colour = _COLOURS[each.state]
        size = "" if each.size_bytes is None else f"  {_size(each.size_bytes)}"
        console.print(
            f"[bold]{escape(each.connection)}[/]  {each.type} {escape(each.version or '')}  "
            f"[{colour}]{each.state}[/]{size}",
            soft_wrap=True,
        )
        for told in (_told(each.details), _told({f"pool {name}": value for name, value in (each.pool or {}).items()})):
            if told:
                console.print(f"  {escape(told)}", style="dim", soft_wrap=True)
        if each.state is StoreState.NOT_CONFIGURED:
            console.print(f"  {escape(each.error)}", style="dim", soft_wrap=True)
        if each.collections:
            console.print(_table(each))
        for note in each.notes:
            console.print(f"  {escape(note)}", style="dim", soft_wrap=True)
        console.print()


def _table(store: StoreStatistics) -> Table:
    """A line for each collection, and below it one for each of its indexes."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("  collection", overflow="fold")
    table.add_column("rows", justify="right")
    table.add_column("size", justify="right")
    table.add_column("uses", justify="right")
    table.add_column("")
    for each in store.collections:
        rows = _UNKNOWN if each.rows is None else f"{'' if each.exact else '~'}{each.rows}"
        table.add_row(
            f"  {escape(each.name)}", rows, _size(each.size_bytes), "", f"[dim]{escape(_told(each.details))}[/]"
        )
        for index in each.indexes:
            uses = "" if index.uses is None else str(index.uses)
            table.add_row(f"    {escape(index.name)}", "", _size(index.size_bytes), uses, _about(index))
    return table


def _about(index: IndexStatistics) -> str:
    fields = f"({', '.join(index.fields)})" if index.fields else ""
    told = " ".join(word for word in (index.kind, fields, "unique" if index.unique else "") if word)
    return f"[dim]{escape(told)}[/]{' [yellow]unused[/]' if index.unused else ''}"


def _told(details: Mapping[str, object]) -> str:
    known = {name: value for name, value in details.items() if value is not None}
    return ", ".join(
        f"{name.removesuffix('_bytes').replace('_', ' ')} "
        f"{_size(value) if name.endswith('_bytes') and isinstance(value, int) else value}"
        for name, value in known.items()
    )


def _size(number: int | None) -> str:
    if number is None:
        return _UNKNOWN
    amount = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:  # noqa: PLR2004 - of the next unit
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
