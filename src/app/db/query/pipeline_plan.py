"""What the first stages of a pipeline come to as a question to the store, which has indexes and need not give all."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .operations import Order
from .pipeline_expressions import head, sources
from .predicates import comparisons


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask, and the stages that are left. Without a limit it is all that matches, in no order."""

    order_by: tuple[Order, ...]
    skip: int
    limit: int | None
    fields: tuple[str, ...]
    """None named means all."""
    stages: tuple[Mapping[str, Any], ...]


MOST_AT_ONCE: Final = 10_000
"""Documents of a limited question, which are in memory together."""


def plan(
    stages: Sequence[Mapping[str, Any]], key: str, fields: Collection[str], sortable: Collection[str], *, is_open: bool
) -> Plan:
    """Ask for a range, and for a `$sort` before it by fields that the store can sort by; `is_open` reads all fields.

    A `$sort` without a range stays a stage: an ordered stream without an index sorts again for each of its batches.
    """
    order_by: tuple[Order, ...] = ()
    position = 0
    if stages and "$sort" in stages[0] and all(path in sortable for path in stages[0]["$sort"]):
        order_by = tuple(Order(path, direction < 0) for path, direction in stages[0]["$sort"].items())
        position = 1
    skip, limit, behind = _range(stages, position)
    names = () if is_open else _fields_read(stages, key, fields)
    if limit is None or limit > MOST_AT_ONCE:
        return Plan((), 0, None, names, tuple(stages))
    return Plan(order_by, skip, limit, names, tuple(stages[behind:]))


def _range(stages: Sequence[Mapping[str, Any]], position: int) -> tuple[int, int | None, int]:
    """The rows to leave out and to take, and the position of the stage behind them."""
    skip = 0
    for stage in stages[position:]:
        position += 1
        if "$limit" in stage:
            return skip, int(stage["$limit"]), position
        if "$skip" not in stage:
            break
        skip += stage["$skip"]
    return 0, None, position


def _fields_read(stages: Sequence[Mapping[str, Any]], key: str, fields: Collection[str]) -> tuple[str, ...]:
    """Which of the stored fields the result depends on; none named means all of them."""
    names: set[str] = set()
    for stage in stages:
        [(name, spec)] = stage.items()
        match name:
            case "$match":
                names |= {head(each.path) for each in comparisons(spec)}
            case "$sort":
                names |= set(map(head, spec))
            case "$unwind":
                names.add(head(spec["path"][1:]))
            case "$addFields":
                names |= {*map(head, spec), *sources(list(spec.values()))}
            case "$project" if False not in spec.values():
                names |= {*sources(list(spec.values())), *(head(path) for path, kept in spec.items() if kept is True)}
                break
            case "$group":
                names |= set(sources(spec))
                break
            case "$count":
                break
    else:
        return ()
    return tuple(each for each in fields if each in names) or (key,)
