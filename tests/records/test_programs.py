"""Random programs do on every store what plain Python does: the same results, and the same records in the end."""

import asyncio
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.errors import DuplicateRecordError, UnsupportedOperationError
from app.db import DataLayer
from app.db.backends.base import Capability

from .programs import Model, Row, TakenError, Thing, Things, row_of

Step = tuple[Any, ...]

ids = st.sampled_from(["a", "b", "c", "d", "e"])
codes = st.sampled_from([None, "x", "y", "z"])
shelves = st.integers(0, 2)
weights = st.sampled_from([None, 1.0, 2.5])
labels = st.sampled_from([None, "red", "blue"])
tags = st.lists(st.sampled_from(["t", "u"]), max_size=2)
rows = st.fixed_dictionaries(
    {
        "id": ids,
        "code": codes,
        "shelf": shelves,
        "weight": weights,
        "label": labels,
        "tags": tags,
        "deleted_at": st.just(False),
    }
)
changes = st.fixed_dictionaries(
    {}, optional={"code": codes, "shelf": shelves, "weight": weights, "label": labels, "tags": tags}
)
filters = st.one_of(
    st.builds(lambda value: {"code": value}, codes),
    st.builds(lambda value: {"label": value}, labels),
    st.builds(lambda shelf, weight: {"shelf": shelf, "weight": weight}, shelves, weights),
    st.builds(lambda value: {"shelf": {"$gt": value}}, shelves),
    st.builds(lambda value: {"label": {"$ne": value}}, labels),
    st.builds(lambda values: {"code": {"$in": values}}, st.lists(codes, max_size=3)),
    st.builds(lambda values: {"id": {"$in": values}}, st.lists(ids, max_size=3)),
    st.builds(lambda value: {"tags": {"$contains": value}}, st.sampled_from(["t", "u"])),
)
expectations = st.fixed_dictionaries({}, optional={"code": codes, "shelf": shelves, "label": labels})
keys = st.sampled_from([("id",), ("code",), ("shelf", "weight")])


def distinct(given: tuple[list[Row], tuple[str, ...]]) -> Step:
    """No two records to upsert have the same values of the key."""
    several, on = given
    return "upsert_many", list({tuple(row[name] for name in on): row for row in several}.values()), on


operations: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.just("create"), rows),
    st.tuples(st.just("create_many"), st.lists(rows, min_size=1, max_size=3)),
    st.tuples(st.just("put_if_absent"), rows),
    st.tuples(st.just("update"), ids, changes),
    st.tuples(st.just("update_many"), filters, changes),
    st.tuples(st.just("compare_and_set"), ids, expectations, changes),
    st.tuples(st.just("increment"), ids, st.just("shelf"), st.integers(-1, 2)),
    st.tuples(st.just("upsert"), rows, keys),
    st.tuples(st.lists(rows, min_size=1, max_size=3), keys).map(distinct),
    st.tuples(st.just("delete"), ids, st.booleans()),
    st.tuples(st.just("delete_many"), filters),
    st.tuples(st.just("restore"), ids),
    st.tuples(st.just("find"), filters),
    st.tuples(st.just("count"), filters),
)
transactions: st.SearchStrategy[Step] = st.tuples(
    st.just("transaction"), st.lists(operations, min_size=1, max_size=6), st.booleans()
)
programs = st.lists(st.one_of(operations, operations, transactions), min_size=1, max_size=12)


class RolledBackError(Exception):
    pass


def roll_back() -> None:
    raise RolledBackError


async def run(things: Any, name: str, *arguments: Any) -> Any:
    """One step on a repository, or on a transaction; rows in and out."""
    match name, arguments:
        case "create" | "put_if_absent", (row,):
            result = await getattr(things, name)(thing(row))
        case "create_many", (several,):
            result = await things.create_many(map(thing, several))
        case "upsert", (row, on):
            result = await things.upsert(thing(row), on=on)
        case "upsert_many", (several, on):
            result = await things.upsert_many(map(thing, several), on=on)
        case "delete", (id, hard):
            result = await things.delete(id, hard=hard)
        case "restore", (id,):
            result = await things.only_deleted().update(id, {"deleted_at": None})
        case _:
            result = await getattr(things, name)(*arguments)
    if isinstance(result, list):
        return [row_of(each) for each in result]
    return row_of(result) if isinstance(result, Thing) else result


def thing(row: Row) -> Thing:
    return Thing(**{**row, "deleted_at": None})


async def compare(things: Any, model: Model, step: Step) -> bool:
    """Whether the step was refused as a duplicate, on both."""
    before = model.rows
    try:
        expected: Any = model.run(*step)
    except TakenError:
        with pytest.raises(DuplicateRecordError):
            await run(things, *step)
        return True
    try:
        result = await run(things, *step)
    except DuplicateRecordError:
        # Where both the id and a unique value are taken, a store may name either first.
        assert step[0] == "put_if_absent", step
        assert expected is False
        with pytest.raises(TakenError):
            Model.run(overlooking(before, step[1]["id"]), "create", step[1])
        return True
    assert result == expected, step
    return False


def overlooking(rows: dict[str, Row], id: str) -> Model:
    model = Model()
    model.rows = {key: row for key, row in rows.items() if key != id}
    return model


async def transact(things: Things, model: Model, steps: list[Step], commits: bool) -> None:
    """The first duplicate ends it, as it does on PostgreSQL."""
    before = model.rows
    working = Model()
    working.rows = {key: dict(row) for key, row in before.items()}
    try:
        async with things.transaction() as tx:
            for step in steps:
                if await compare(tx, working, step):
                    roll_back()
            assert await contents(things) == before
            if not commits:
                roll_back()
    except RolledBackError:
        return
    model.rows = working.rows


async def contents(things: Things) -> dict[str, Row]:
    return {each.id: row_of(each) for each in await things.with_deleted().all()}


async def can_transact(things: Things) -> bool:
    """A single MongoDB server has none, which shows when one begins."""
    try:
        async with things.transaction():
            return True
    except UnsupportedOperationError:
        return False


def test_programs(store: str, config: dict[str, Any]) -> None:
    if store == "mongodb" and "MANYSTORE_TEST_MONGODB_URI" not in os.environ:
        pytest.skip("the stand-in ignores the conditions of indexes; give MANYSTORE_TEST_MONGODB_URI")
    with asyncio.Runner() as runner:
        data = DataLayer.from_config(config)
        things = data.repository(Things)
        has_transactions = Capability.TRANSACTIONS in things.capabilities and runner.run(can_transact(things))

        async def execute(program: list[Step]) -> None:
            await things.with_deleted().delete_many(None, everything=True, hard=True)
            model = Model()
            for step in program:
                if step[0] != "transaction":
                    await compare(things, model, step)
                elif has_transactions:
                    await transact(things, model, *step[1:])
            assert await contents(things) == model.rows
            for code in ("x", "y", "z"):
                assert [row_of(each) for each in await things.find({"code": code})] == model.find({"code": code})
            for label in (None, "red", "blue"):
                assert [row_of(each) for each in await things.find({"label": label})] == model.find({"label": label})

        @settings(
            max_examples=150,
            deadline=None,
            suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        )
        @given(programs)
        def check(program: list[Step]) -> None:
            runner.run(execute(program))

        try:
            check()
        finally:
            runner.run(data.close())
