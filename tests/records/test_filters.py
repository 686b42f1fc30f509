"""Every store answers a filter exactly as `evaluate.py` defines it: random documents, random predicates and orders."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field

from app.db import DataLayer, Entity, Repository
from app.db.models.values import storable
from app.db.query import And, Compare, Find, Insert, Not, Op, Or, Order, Predicate
from app.db.query.evaluate import matches, ordered

Nested = dict[str, Any]


class Sample(Entity):
    text: str | None = None
    whole: int | None = None
    real: float | None = None
    exact: Decimal | None = None
    flag: bool | None = None
    moment: datetime | None = None
    day: date | None = None
    key: UUID | None = None
    data: bytes | None = None
    either: bool | int | float | str | None = None
    nested: Nested | None = None
    items: list[Any] = Field(default_factory=list)


class Samples(Repository[Sample]):
    pass


# Few values that are near to each other, so that comparisons meet.
integers = st.sampled_from(
    [0, 1, -1, 2, 5, 2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1, 2**62, 2**63 - 1, 2**63 - 2, -(2**63)]
)
floats = st.sampled_from(
    [0.0, -0.0, 1.0, 0.1, 0.5, 1.5, 2.0, -1.5, 2.0**53, 2.0**53 + 2, 2.0**63, -(2.0**63), 1e300, 5e-324, 1e-7, 1e22]
)
decimals = st.sampled_from(
    [
        *(
            "0",
            "1",
            "1.0",
            "1.50",
            "0.1",
            "0.5",
            "-1.5",
            "9007199254740993",
            "9223372036854775807",
            "9223372036854775808",
        ),
        *("9223372036854775807.5", "1E+400", "1E-400", "0.1000000000000000055511151231257827021181583404541015625"),
        *("-9223372036854775808.5", "2.5", "1E+2"),
    ]
).map(Decimal)
# PostgreSQL's numeric compares with them and does not hold them.
enormous = st.sampled_from(["1E+999999", "-1E-999999"]).map(Decimal)
texts = st.one_of(
    st.sampled_from(
        ["", "a", "A", "b", "ab", "aB", "é", "e\u0301", "%", "_", "a%", "[a]", "*", "'", '"', "\\", "true", "1", "null"]
    ),
    st.sampled_from(
        ["\ufb01", "\U0001f600", "\uffff", "2026-01-10", "2026-01-10T12:00:00.000+00:00", "\x1f", "\x7f", "\u2028"]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=3),
)
noon = datetime(2026, 1, 10, 12, tzinfo=UTC)
moments = st.sampled_from(
    [
        noon,
        noon + timedelta(milliseconds=1),
        noon - timedelta(days=1),
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999000, UTC),
    ]
)
days = st.sampled_from([date(2026, 1, 10), date(2026, 1, 11), date(1, 1, 1), date(9999, 12, 31)])
keys = st.sampled_from([UUID(int=0), UUID(int=1), UUID(int=2**128 - 1)])
blobs = st.sampled_from([b"", b"a", b"\0", b"\xff", b"ab"])
booleans = st.booleans()
small_scalars = st.one_of(st.none(), booleans, integers, floats, decimals, texts, moments, days, keys, blobs)
scalars = small_scalars | enormous
names = st.sampled_from(["a", "b", "a b", "é", "x-y", "0", "$datetime", "$a", 'q"q', "b\\", "", "a.b"])


def samples_of(store: str) -> st.SearchStrategy[Sample]:
    has_limit = store == "postgres"
    numbers, items = (decimals, small_scalars) if has_limit else (decimals | enormous, scalars)
    values = st.recursive(
        items,
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
        max_leaves=5,
    )

    return st.builds(
        Sample.model_construct,
        text=st.none() | texts,
        whole=st.none() | integers,
        real=st.none() | floats,
        exact=st.none() | numbers,
        flag=st.none() | booleans,
        moment=st.none() | moments,
        day=st.none() | days,
        key=st.none() | keys,
        data=st.none() | blobs,
        either=st.one_of(st.none(), booleans, integers, floats, texts),
        nested=st.none() | st.dictionaries(names, values, max_size=3),
        items=st.lists(values, max_size=3),
    )


SCALAR_FIELDS = ("text", "whole", "real", "exact", "flag", "moment", "day", "key", "data")
paths = st.one_of(
    st.sampled_from([*SCALAR_FIELDS, "either", "nested", "items"]),
    st.sampled_from(
        ["nested.a", "nested.b", "nested.a.b", "nested.a b", "nested.é", "nested.x-y", "nested.0", "nested.a.0"]
    ),
    st.sampled_from(["items.0", "items.a", "text.a", "whole.b", "either.a"]),
)
comparisons: st.SearchStrategy[Predicate] = st.one_of(
    st.builds(Compare, paths, st.just(Op.EQ), scalars),
    st.builds(
        Compare,
        paths,
        st.sampled_from([Op.LT, Op.LE, Op.GT, Op.GE]),
        st.one_of(booleans, integers, floats, decimals, enormous, texts, moments, days),
    ),
    st.builds(Compare, paths, st.just(Op.IN), (st.lists(scalars, max_size=4) | st.lists(texts, max_size=4)).map(tuple)),
    st.builds(Compare, paths, st.just(Op.CONTAINS), scalars),
    st.builds(Compare, paths, st.just(Op.STARTSWITH), texts),
)
predicates: st.SearchStrategy[Predicate] = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)
orders = st.lists(st.builds(Order, st.sampled_from([*SCALAR_FIELDS, "id"]), booleans), max_size=3)


@contextmanager
def repository(config: dict[str, Any]) -> Iterator[tuple[asyncio.Runner, Samples]]:
    """One repository for all examples of a test; each example empties it."""
    with asyncio.Runner() as runner:
        data = DataLayer.from_config(config)
        try:
            yield runner, data.repository(Samples)
        finally:
            runner.run(data.close())


async def refill(repo: Samples, entities: list[Sample]) -> list[dict[str, Any]]:
    """Past the repository, so that values are as hypothesis made them."""
    documents = [
        {name: storable(getattr(entity, name)) for name in Sample.model_fields if name != "id"} | {"id": f"{i:02}"}
        for i, entity in enumerate(entities)
    ]
    await repo.delete_many(None, everything=True)
    if documents:
        await repo._run(Insert(tuple(documents)))
    return documents


slow = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def test_a_store_finds_what_the_definition_says(config: dict[str, Any], store: str) -> None:
    with repository(config) as (runner, repo):

        @slow
        @given(st.lists(samples_of(store), max_size=5), st.lists(predicates, min_size=1, max_size=4))
        def check(entities: list[Sample], wheres: list[Predicate]) -> None:
            async def run() -> None:
                documents = await refill(repo, entities)
                for where in wheres:
                    expected = [document["id"] for document in documents if matches(where, document)]
                    found = await repo._run(Find(where))
                    assert [document["id"] for document in found] == expected, where
                    for document in found:
                        assert document == documents[int(document["id"])]
                    assert await repo.count(where) == len(expected)

            runner.run(run())

        check()


SCALARS: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2**53,
        2**53 + 1,
        2**63 - 1,
        -(2**63),
        0.0,
        1.0,
        0.1,
        1.5,
        2.0**53,
        2.0**63,
        -(2.0**63),
    ),
    *(
        Decimal("0.1"),
        Decimal("1.0"),
        Decimal("1.50"),
        Decimal(9007199254740993),
        Decimal("1E+400"),
        "",
        "1",
        "a",
        "true",
    ),
    *("null", "2026-01-10", noon, noon + timedelta(milliseconds=1), date(2026, 1, 10), UUID(int=1), b"", b"a"),
]
ORDERED = [value for value in SCALARS if not isinstance(value, UUID | bytes | None)]


def test_each_kind_meets_each_other_inside_json(config: dict[str, Any]) -> None:
    nested: list[Any] = [*SCALARS, [], ["a", 1], [1.5, None, True], [noon, Decimal("0.1")], {}, {"a": 1}]
    entities = [Sample(nested={"a": value}) for value in nested]
    wheres = [Compare("nested.a", op, value) for op in (Op.EQ, Op.CONTAINS) for value in SCALARS]
    wheres += [Compare("nested.a", op, value) for op in (Op.LT, Op.LE, Op.GT, Op.GE) for value in ORDERED]
    wheres += [Compare("nested.a", Op.IN, (value, "a")) for value in SCALARS]
    with repository(config) as (runner, repo):

        async def run() -> None:
            documents = await refill(repo, entities)
            for where in wheres:
                expected = [document["id"] for document in documents if matches(where, document)]
                assert [document["id"] for document in await repo._run(Find(where))] == expected, where

        runner.run(run())


def test_a_store_orders_as_the_definition_says(config: dict[str, Any], store: str) -> None:
    with repository(config) as (runner, repo):

        @slow
        @given(st.lists(samples_of(store), max_size=6), orders, st.integers(0, 3), st.none() | st.integers(0, 4))
        def check(entities: list[Sample], order_by: list[Order], skip: int, limit: int | None) -> None:
            async def run() -> None:
                documents = await refill(repo, entities)
                expected = ordered(documents, order_by, "id")[skip : None if limit is None else skip + limit]
                found = await repo._run(Find(order_by=tuple(order_by), skip=skip, limit=limit))
                assert [document["id"] for document in found] == [document["id"] for document in expected]

            runner.run(run())

        check()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(samples_of("sqlite"), predicates)
def test_the_definition_is_two_valued(entity: Sample, where: Predicate) -> None:
    document = {name: storable(getattr(entity, name, None)) for name in Sample.model_fields}
    assert matches(Not(where), document) is not matches(where, document)
