"""What the stages of a pipeline mean."""

import tracemalloc
from collections.abc import AsyncGenerator
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest

from app.db.query.pipeline import check_pipeline, run_pipeline
from app.db.query.predicates import ALL

SALES: list[dict[str, Any]] = [
    {"id": "1", "item": "abc", "price": 10, "quantity": 2, "at": datetime(2014, 1, 1, tzinfo=UTC), "tags": ["a", "b"]},
    {"id": "2", "item": "jkl", "price": 20, "quantity": 1, "at": datetime(2014, 2, 3, tzinfo=UTC), "tags": []},
    {"id": "3", "item": "xyz", "price": 5, "quantity": 5, "at": datetime(2014, 2, 3, tzinfo=UTC), "tags": None},
    {"id": "4", "item": "abc", "price": 10, "quantity": 10, "at": datetime(2014, 2, 15, tzinfo=UTC), "tags": ["b"]},
    {"id": "5", "item": "xyz", "price": 5, "quantity": None, "at": datetime(2014, 2, 16, tzinfo=UTC), "tags": "c"},
]


async def batches_of(documents: list[dict[str, Any]], size: int = 2) -> AsyncGenerator[list[dict[str, Any]], None]:
    for start in range(0, len(documents), size):
        yield documents[start : start + size]


async def run(documents: list[dict[str, Any]], *pipeline: dict[str, Any]) -> list[dict[str, Any]]:
    where, stages = check_pipeline([{"$skip": 0}, *pipeline])
    assert where == ALL
    return await run_pipeline(batches_of(documents), stages)


async def test_group_with_every_accumulator() -> None:
    grouped = await run(
        SALES,
        {
            "$group": {
                "_id": "$item",
                "total": {"$sum": "$quantity"},
                "sales": {"$sum": 1},
                "counted": {"$count": {}},
                "average": {"$avg": "$quantity"},
                "least": {"$min": "$quantity"},
                "most": {"$max": "$quantity"},
                "first": {"$first": "$quantity"},
                "last": {"$last": "$quantity"},
                "all": {"$push": "$quantity"},
                "prices": {"$addToSet": "$price"},
                "nothing": {"$sum": "$missing"},
                "none": {"$avg": "$missing"},
            }
        },
        {"$match": {"_id": "xyz"}},
    )
    assert grouped == [
        {
            "_id": "xyz",
            "total": 5,
            "sales": 2,
            "counted": 2,
            "average": 5.0,
            "least": 5,
            "most": 5,
            "first": 5,
            "last": None,
            "all": [5, None],
            "prices": [5],
            "nothing": 0,
            "none": None,
        }
    ]


async def test_group_by_several_and_by_none() -> None:
    by = {"$group": {"_id": {"item": "$item", "at": "$at"}, "n": {"$count": {}}}}
    assert len(await run(SALES, by)) == 5
    everything: dict[str, Any] = {
        "$group": {"_id": None, "n": {"$count": {}}, "pairs": {"$push": {"i": "$item", "one": 1}}}
    }
    [one] = await run(SALES[:2], everything)
    assert one == {"_id": None, "n": 2, "pairs": [{"i": "abc", "one": 1}, {"i": "jkl", "one": 1}]}
    assert await run([], everything) == []


async def test_a_group_is_a_value_and_not_its_spelling() -> None:
    values = [1, 1.0, Decimal(1), True, "1", None, {"a": 1, "b": [2]}, {"b": [2.0], "a": 1}, [1], [True]]
    documents = [{"id": str(n), "v": value} for n, value in enumerate(values)]
    grouped = await run([*documents, {"id": "x"}], {"$group": {"_id": "$v", "n": {"$sum": 1}}})
    assert [(type(each["_id"]), each["n"]) for each in grouped] == [
        *((int, 3), (bool, 1), (str, 1), (type(None), 2), (dict, 2), (list, 1), (list, 1))
    ]


async def test_sums_do_not_depend_on_the_order() -> None:
    numbers = [1e16, 1.0, -1e16, 2**70, 0.1]
    sums = set()
    for order in permutations(numbers):
        [one] = await run([{"v": each} for each in order], {"$group": {"_id": None, "s": {"$sum": "$v"}}})
        sums.add(one["s"])
    assert sums == {float(2**70)}


@pytest.mark.parametrize(
    ("values", "total", "mean"),
    [
        ([1, 2], 3, 1.5),
        ([2**63, 2**63], 2**64, float(2**63)),
        ([1, 0.5], 1.5, 0.75),
        ([0.1] * 10, 1.0, 0.1),
        ([5e-324, 5e-324], 1e-323, 5e-324),
        ([1.7e308, 1.7e308], float("inf"), 1.7e308),
        ([Decimal("0.1"), Decimal("0.2")], Decimal("0.3"), Decimal("0.15")),
        ([Decimal("0.1"), 1, 0.5], Decimal("1.6"), Decimal("0.5333333333333333333333333333333333")),
        ([True, "5", None, [1]], 0, None),
    ],
)
async def test_what_is_added_and_averaged(values: list[Any], total: Any, mean: Any) -> None:
    [one] = await run(
        [{"v": each} for each in values], {"$group": {"_id": None, "s": {"$sum": "$v"}, "m": {"$avg": "$v"}}}
    )
    assert (one["s"], type(one["s"])) == (total, type(total))
    assert (one["m"], type(one["m"])) == (mean, type(mean))


async def test_the_first_may_be_none_and_a_set_has_a_number_once() -> None:
    group = {"$group": {"_id": None, "first": {"$first": "$v"}, "set": {"$addToSet": "$v"}}}
    assert await run([{"v": each} for each in (None, 1, 1.0, True, [1], [1.0])], group) == [
        {"_id": None, "first": None, "set": [None, 1, True, [1]]}
    ]


async def test_extremes_of_kinds_and_of_lists() -> None:
    values = [None, 3, "text", {"a": 1}, [9], b"x", True, datetime(2020, 1, 1, tzinfo=UTC), date(1999, 1, 1)]
    group = {"$group": {"_id": None, "least": {"$min": "$v"}, "most": {"$max": "$v"}}}
    [one] = await run([{"v": each} for each in values], group)
    assert one == {"_id": None, "least": 3, "most": date(1999, 1, 1)}
    assert await run([{"v": None}], group) == [{"_id": None, "least": None, "most": None}]


async def test_sort() -> None:
    async def ids(*pipeline: dict[str, Any]) -> str:
        return "".join(each["id"] for each in await run(SALES, *pipeline))

    assert await ids({"$sort": {"price": 1}}) == "35142"
    assert await ids({"$sort": {"price": -1, "quantity": -1}}) == "24135"
    assert await ids({"$sort": {"quantity": 1}}) == "52134"
    assert await ids({"$sort": {"tags": 1}}) == "23145", "an empty list, None, the smallest elements"
    assert await ids({"$sort": {"tags": -1}}) == "51432"
    assert await ids({"$sort": {"price": -1, "quantity": -1}}, {"$skip": 1}, {"$limit": 2}) == "41"
    assert await ids({"$sort": {"price": -1}}, {"$limit": 1}, {"$skip": 1}) == ""


async def test_a_sort_before_a_limit_holds_no_more_than_it_gives() -> None:
    async def batches() -> AsyncGenerator[list[dict[str, Any]], None]:
        for start in range(0, 20_000, 500):
            yield [{"id": n, "v": (n * 7919) % 100_003} for n in range(start, start + 500)]

    _, stages = check_pipeline([{"$sort": {"v": -1, "id": 1}}, {"$skip": 2}, {"$limit": 3}])
    tracemalloc.start()
    try:
        found = await run_pipeline(batches(), stages)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [each["v"] for each in found] == sorted(((n * 7919) % 100_003 for n in range(20_000)), reverse=True)[2:5]
    assert peak < 2_000_000


async def test_limit_ends_the_stream() -> None:
    taken = []
    ended = []

    async def batches() -> AsyncGenerator[list[dict[str, Any]], None]:
        try:
            for number in range(100):
                taken.append(number)
                yield [{"id": number}, {"id": -number}]
        finally:
            ended.append(True)

    _, stages = check_pipeline([{"$skip": 1}, {"$limit": 2}, {"$group": {"_id": None, "ids": {"$push": "$id"}}}])
    assert await run_pipeline(batches(), stages) == [{"_id": None, "ids": [0, 1]}]
    assert (taken, ended) == ([0, 1], [True])


async def test_project() -> None:
    document = {"id": "1", "a": 1, "b": {"c": 2, "d": 3}, "l": [{"x": 1, "y": 2}, {"y": 3}, 5], "n": None}

    async def project(**spec: Any) -> dict[str, Any]:
        [one] = await run([document], {"$project": spec})
        return one

    assert await project(a=1, n=True) == {"id": "1", "a": 1, "n": None}
    assert await project(a=1, id=0) == {"a": 1}
    assert await project(id=1) == {"id": "1"}
    assert await project(id=0) == {name: value for name, value in document.items() if name != "id"}
    assert await project(**{"b.c": 1, "missing": 1, "a.x": 1}) == {"id": "1", "b": {"c": 2}, "missing": None, "a": None}
    assert await project(b={"d": 1}) == {"id": "1", "b": {"d": 3}}
    assert await project(l={"x": 1}) == {"id": "1", "l": [{"x": 1}, {"x": None}]}
    assert await project(a=0, b=0, **{"l.x": 0}) == {"id": "1", "l": [{"y": 2}, {"y": 3}, 5], "n": None}
    assert await project(**{"b.c": False, "id": 0, "l": 0, "n": 0}) == {"a": 1, "b": {"d": 3}}
    assert await project(was="$a", deep="$b.c", xs="$l.x", none="$a.z") == {
        "id": "1",
        "was": 1,
        "deep": 2,
        "xs": [1, None],
        "none": None,
    }
    assert await project(one={"$literal": 1}, yes={"$literal": True}, dollar={"$literal": "$a"}, text="plain") == {
        "id": "1",
        "one": 1,
        "yes": True,
        "dollar": "$a",
        "text": "plain",
    }
    assert await project(id="$a") == {"id": 1}
    assert await project(pair=["$a", "x"], **{"deep.er": "$a"}) == {"id": "1", "pair": [1, "x"], "deep": {"er": 1}}


async def test_project_after_group_keeps_the_group() -> None:
    group = {"$group": {"_id": "$item", "n": {"$sum": 1}}}
    assert (await run(SALES, group, {"$project": {"n": 1}}))[0] == {"_id": "abc", "n": 2}
    renamed = {"$project": {"_id": 0, "item": "$_id", "n": 1}}
    assert (await run(SALES, group, renamed))[0] == {"item": "abc", "n": 2}
    assert (await run(SALES, group, renamed, {"$project": {"n": 1}}))[0] == {"n": 2}


@pytest.mark.parametrize("name", ["$addFields", "$set"])
async def test_add_fields(name: str) -> None:
    document = {"id": "1", "a": 1, "b": {"c": 2}, "l": [{"x": 1}, 5]}
    spec = {"a": "$b.c", "was": "$a", "b.d": True, "l.y": 0, "new.er": "text", "a2": {"$literal": "$"}}
    [one] = await run([document], {name: spec})
    assert one == {
        "id": "1",
        "a": 2,
        "was": 1,
        "b": {"c": 2, "d": True},
        "l": [{"x": 1, "y": 0}, {"y": 0}],
        "new": {"er": "text"},
        "a2": "$",
    }
    assert document == {"id": "1", "a": 1, "b": {"c": 2}, "l": [{"x": 1}, 5]}


async def test_unwind() -> None:
    async def unwound(spec: Any) -> list[Any]:
        return [(each["id"], each["tags"]) for each in await run(SALES, {"$unwind": spec})]

    plain = [("1", "a"), ("1", "b"), ("4", "b"), ("5", "c")]
    assert await unwound("$tags") == await unwound({"path": "$tags"}) == plain
    assert await unwound({"path": "$tags", "preserveNullAndEmptyArrays": True}) == [
        *(*plain[:2], ("2", None), ("3", None), *plain[2:])
    ]
    nested = [{"id": "1", "a": {"l": [1, 2], "k": 0}}]
    assert await run(nested, {"$unwind": "$a.l"}) == [
        {"id": "1", "a": {"l": 1, "k": 0}},
        {"id": "1", "a": {"l": 2, "k": 0}},
    ]


async def test_counting() -> None:
    assert await run(SALES, {"$count": "sales"}) == [{"sales": 5}]
    assert await run([], {"$count": "sales"}) == []
    assert await run(SALES, {"$unwind": "$tags"}, {"$sortByCount": "$tags"}) == [
        {"_id": "b", "count": 2},
        {"_id": "a", "count": 1},
        {"_id": "c", "count": 1},
    ]
