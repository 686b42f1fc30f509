"""What is in the aggregation language, and what is not."""

from datetime import datetime
from typing import Any

import pytest

from app.core.errors import InvalidFilterError
from app.db import F
from app.db.query.operations import Order
from app.db.query.pipeline import check_pipeline
from app.db.query.pipeline_plan import MOST_AT_ONCE, Plan, plan
from app.db.query.predicates import ALL

FIELDS = ("id", "name", "price", "stock", "tags", "address")


def test_the_first_matches_are_the_filter() -> None:
    where, stages = check_pipeline(
        [{"$match": {"price": {"$gt": 1}}}, {"$match": {"name": "a"}}, {"$limit": 1}, {"$match": {"stock": 0}}],
        "id",
        FIELDS,
    )
    assert where == ((F.price > 1) & (F.name == "a"))
    assert stages == ({"$limit": 1}, {"$match": F.stock == 0})
    assert check_pipeline([]) == (ALL, ())


@pytest.mark.parametrize(
    ("pipeline", "names"),
    [
        ([], ()),
        ([{"$sort": {"price": 1}}], ()),
        ([{"$limit": 5}, {"$count": "n"}], ("id",)),
        ([{"$match": {"stock": 1, "tags": "x"}}, {"$limit": 1}, {"$match": {"price": 1}}, {"$count": "n"}], ("price",)),
        ([{"$group": {"_id": {"a": "$address.city"}, "n": {"$sum": "$price"}, "m": {"$push": ["$stock"]}}}], None),
        ([{"$unwind": "$tags"}, {"$sortByCount": "$tags"}, {"$sort": {"_id": 1}}], ("tags",)),
        ([{"$set": {"cost": "$price"}}, {"$project": {"cost": 1, "one": {"$literal": "$name"}}}], ("id", "price")),
        ([{"$sort": {"stock": 1}}, {"$project": {"was": "$name", "id": 0}}], ("name", "stock")),
        ([{"$project": {"name": 0}}, {"$count": "n"}], ("id",)),
        ([{"$project": {"name": 0}}], ()),
    ],
)
def test_only_the_fields_that_are_read_are_fetched(pipeline: list[Any], names: tuple[str, ...] | None) -> None:
    expected = ("price", "stock", "address") if names is None else names
    assert planned(pipeline).fields == expected
    assert planned(pipeline, is_open=True).fields == ()


def planned(pipeline: list[Any], *, is_open: bool = False) -> Plan:
    return plan(check_pipeline(pipeline, "id", FIELDS)[1], "id", FIELDS, ("id", "name", "price"), is_open=is_open)


@pytest.mark.parametrize(
    ("pipeline", "order", "skip", "limit", "left"),
    [
        ([{"$sort": {"price": -1, "id": 1}}], (), 0, None, 1),
        ([{"$sort": {"price": -1, "id": 1}}, {"$limit": 1}], (Order("price", True), Order("id")), 0, 1, 0),
        ([{"$sort": {"price": 1}}, {"$skip": 2}, {"$skip": 3}, {"$limit": 4}], (Order("price"),), 5, 4, 0),
        ([{"$limit": 4}, {"$skip": 1}, {"$count": "n"}], (), 0, 4, 2),
        ([{"$skip": 1}, {"$count": "n"}], (), 0, None, 2),
        (
            [{"$sort": {"price": 1}}, {"$skip": 1}, {"$match": {"name": "x"}}, {"$limit": 1}],
            (),
            0,
            None,
            4,
        ),
        ([{"$sort": {"price": 1}}, {"$limit": MOST_AT_ONCE + 1}], (), 0, None, 2),
        ([{"$sort": {"price": 1, "address": 1}}, {"$limit": 4}], (), 0, None, 2),
        ([{"$sort": {"address.city": 1}}], (), 0, None, 1),
        ([{"$unwind": "$tags"}, {"$sort": {"price": 1}}, {"$limit": 4}], (), 0, None, 3),
    ],
)
def test_what_the_store_does(
    pipeline: list[Any], order: tuple[Order, ...], skip: int, limit: int | None, left: int
) -> None:
    found = planned(pipeline)
    assert (found.order_by, found.skip, found.limit, len(found.stages)) == (order, skip, limit, left)
    assert [list(each) for each in found.stages] == [list(each) for each in pipeline[len(pipeline) - left :]]


UNKNOWN_STAGES = (
    *(
        "$out",
        "$merge",
        "$lookup",
        "$function",
        "$where",
        "$facet",
        "$unionWith",
        "$search",
        "$graphLookup",
        "$geoNear",
    ),
    *("$currentOp", "$replaceRoot", "$bucket", "$Match", "match", 1),
)
UNKNOWN_ACCUMULATORS: list[Any] = [
    *(1, {}, {"$sum": 1, "$avg": 1}, "$name", {"$accumulator": {}}, {"$total": 1}, {"sum": 1}, {"$sum": "$x"}),
    *({"$sum": {"$add": [1]}}, {"$count": 1}, {"$count": None}, {"$count": "$name"}),
]
REFUSED_SPECS: dict[str, list[Any]] = {
    "$match": [
        *(None, "x", {"$where": "1"}, {"$expr": {}}, {"name": {"$regex": "x"}}, {"x": 1}, {"$jsonSchema": {}}),
        {"price": {"$gt": None}},
    ],
    "$project": [
        *(None, {}, {"name": 1, "price": 0}, {"x": 1}, {"x": 0}, {"_id": 0, "name": 1}, {"id": 1, "name": 0}, {5: 1}),
        *({"a": "$x"}, {"a": "$$ROOT"}, {"a": "$"}, {"$a": 1}, {"a..b": 1}, {"": 1}, {"name": 0, "a": "$price"}),
        *({"a": {"$add": [1, 2]}}, {"a": {"b": {"$function": {}}}}, {"a": ["$x"]}, {"address": 1, "address.city": 1}),
        *({"address.city": 1, "address": 1}, {"address": {"city": 1}, "address.city": 1}),
    ],
    "$addFields": [
        *(None, {}, {"a": {"$sum": 1}}, {"a": "$x"}, {"a": float("nan")}, {"a": "\0"}, {"a": {"$literal": "\0"}}),
        {"a": datetime(2020, 1, 1)},  # noqa: DTZ001 - that is what is refused
    ],
    "$set": [{"a": object}, {"$where": 1}, {"a": {"$literal": 1, "b": 2}}],
    "$group": [
        *(None, {}, {"n": {"$sum": 1}}, {"_id": "$x"}, {"_id": {"$add": [1]}}, {"_id": {"a.b": "$name"}}),
        *({"_id": None, "n": each} for each in UNKNOWN_ACCUMULATORS),
        *({"_id": None, name: {"$sum": 1}} for name in ("$n", "a.b", "", "a'b")),
    ],
    "$sort": [
        *(None, {}, "name", {"x": 1}, {"name": 0}, {"name": True}, {"name": "asc"}, {"$name": 1}),
        {"name": {"$meta": "textScore"}},
    ],
    "$skip": [None, -1, 1.5, "1", True, {}],
    "$limit": [None, 0, -1, 1.5, "1", True, {}],
    "$count": [None, "", "$n", "a.b", 1, {}],
    "$unwind": [
        *(None, "", "tags", "$", "$x", "$$tags", {}, {"path": "tags"}, ["$tags"]),
        *({"path": "$tags", "as": 1}, {"path": "$tags", "preserveNullAndEmptyArrays": 1}),
    ],
    "$sortByCount": [None, "name", {"$add": []}, "$x", 1],
}
REFUSED: list[Any] = [
    *(None, {}, "x", [None], ["$match"], [[]], [{}], [{"$match": {}, "$limit": 1}], [{"$skip": 1}] * 101),
    *([{name: {}}] for name in UNKNOWN_STAGES),
    *([{name: each}] for name, specs in REFUSED_SPECS.items() for each in specs),
    [{"$limit": 1}, {"$match": {"x": 1}}],
    [{"$group": {"_id": "$name"}}, {"$sort": {"name": 1}}],
    [{"$count": "n"}, {"$match": {"name": "x"}}],
    [{"$project": {"name": 1}}, {"$sort": {"price": 1}}],
    [{"$project": {"name": 0}}, {"$unwind": "$name"}],
]


@pytest.mark.parametrize("pipeline", REFUSED, ids=lambda pipeline: repr(pipeline)[:70])
def test_what_is_not_in_the_language_is_refused(pipeline: Any) -> None:
    with pytest.raises(InvalidFilterError):
        check_pipeline(pipeline, "id", FIELDS)


def test_variables_are_no_fields() -> None:
    for stage in ({"$project": {"a": "$$ROOT"}}, {"$unwind": "$$ROOT"}, {"$group": {"_id": "$$NOW"}}):
        with pytest.raises(InvalidFilterError, match="variable"):
            check_pipeline([stage])


def test_depth_is_limited() -> None:
    deep: Any = "$name"
    for _ in range(5000):
        deep = {"a": deep}
    for stage in ({"$project": deep}, {"$group": {"_id": deep}}, {"$addFields": {"l": [deep]}}):
        with pytest.raises(InvalidFilterError, match="nested"):
            check_pipeline([stage])


def test_where_the_model_is_open_any_field_may_be_named() -> None:
    assert check_pipeline([{"$sortByCount": "$anything"}], "id", None)
