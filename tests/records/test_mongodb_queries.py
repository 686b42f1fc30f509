"""What the library asks of MongoDB is what the definition says, by the rules of MongoDB's manual."""

from datetime import date
from decimal import Decimal
from typing import Any

import bson
import pytest
from bson import Decimal128, ObjectId
from bson.codec_options import CodecOptions
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.core.errors import UnsupportedOperationError
from app.db.backends._mongodb_documents import Documents
from app.db.backends._mongodb_numbers import head_and_tail
from app.db.backends._mongodb_query import Queries
from app.db.backends._mongodb_values import decode_key, decode_value, encode_key, encode_top_level, encode_value
from app.db.backends.base import CollectionSchema
from app.db.models.schema import schema_of
from app.db.models.values import storable
from app.db.query import Compare, F, Not, Op, Or, Order, Predicate, to_predicate
from app.db.query.evaluate import matches, ordered

from .mongodb_semantics import meets, sorted_as
from .test_filters import Sample, orders, predicates, samples_of
from .test_values import json_values

NAIVE: CodecOptions[dict[str, Any]] = CodecOptions(uuid_representation=4)
SCHEMA = CollectionSchema("samples", "id", schema_of(Sample).fields)
DOCUMENTS = Documents(SCHEMA)
QUERIES = Queries(SCHEMA, DOCUMENTS)
samples = samples_of("mongodb")
IDS = ["00", "507f1f77bcf86cd799439011", "507f1f77bcf86cd79943901", "z", "507f1f77bcf86cd799439012", "", "5"]

often = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def stored(document: dict[str, Any]) -> dict[str, Any]:
    """The document as a server gives it."""
    return bson.decode(bson.encode(DOCUMENTS.encode(document), codec_options=NAIVE), NAIVE)


def asked(where: Predicate) -> dict[str, Any]:
    """The query as a server gets it."""
    return bson.decode(bson.encode(QUERIES.query(where), codec_options=NAIVE), NAIVE)


def plain(entity: Sample, key: str) -> dict[str, Any]:
    return {name: storable(getattr(entity, name)) for name in Sample.model_fields if name != "id"} | {"id": key}


@often
@given(samples_of("mongodb"), predicates)
def test_a_query_finds_what_the_definition_says(entity: Sample, where: Predicate) -> None:
    document = plain(entity, "1")
    assert meets(asked(where), stored(document)) is matches(where, document)


@often
@given(samples_of("mongodb"))
def test_a_document_comes_back_as_it_went_in(entity: Sample) -> None:
    document = plain(entity, "1")
    again = DOCUMENTS.decode(stored(document))
    assert {name: repr(each) for name, each in again.items()} == {name: repr(each) for name, each in document.items()}


@often
@given(st.lists(samples_of("mongodb"), max_size=6), orders)
def test_a_sort_is_the_order_of_the_definition(entities: list[Sample], order_by: list[Order]) -> None:
    documents = [plain(entity, f"{i:02}") for i, entity in enumerate(entities)]
    order_by = [order for order in order_by if order.field != "data"]  # by a text of it: see the pipeline
    found = sorted_as([stored(document) for document in documents], QUERIES.sort(order_by))
    assert [each["_id"] for each in found] == [each["id"] for each in ordered(documents, order_by, "id")]


@often
@given(json_values)
def test_anything_nested_comes_back(value: Any) -> None:
    again = bson.decode(bson.encode({"a": encode_value(value)}, codec_options=NAIVE), NAIVE)["a"]
    assert repr(decode_value(again)) == repr(value)


keys = st.text(st.sampled_from("~$.0123_a"), max_size=6) | st.sampled_from(["_id", "_expires_at", "$set", "~4_id"])


@often
@given(keys)
def test_any_key_comes_back_and_can_be_updated(key: str) -> None:
    for encoded in (encode_key(key), encode_top_level(key)):
        assert decode_key(encoded) == key
        assert encoded
        assert "." not in encoded
        assert not encoded.startswith("$")
    assert encode_top_level(key) not in ("_id", "_expires_at")


numbers = st.decimals(allow_nan=False, allow_infinity=False) | st.sampled_from(
    [Decimal(text) for text in ("1E+6145", "-1E+6145", "1E-6177", "-1E-6177", "9" * 35, "-" + "9" * 40, "1E+999999")]
    + [Decimal("1" * 34 + ".5"), Decimal("1" * 34 + ".55"), Decimal("-" + "1" * 34 + ".5"), Decimal("0E+999999")]
    + [Decimal("-" + "1" * 34 + ".55"), Decimal("1E-999999"), Decimal("-1E-999999"), Decimal("9" * 34 + "E+6111")]
    + [Decimal("9" * 35 + "E+6110"), Decimal("-" + "9" * 35 + "E+6110"), Decimal(2**200), Decimal(float("0.1"))]
)


@often
@given(numbers, numbers)
def test_heads_and_tails_sort_as_numbers_do(first: Decimal, second: Decimal) -> None:
    def key(value: Decimal) -> tuple[Decimal, str]:
        head, tail = head_and_tail(value)
        return (head.to_decimal(), tail or "")

    assert (key(first) < key(second)) is (first < second)
    assert (key(first) == key(second)) is (first == second)
    assert head_and_tail(first)[0].to_decimal() <= first


@often
@given(st.sampled_from(IDS), st.sampled_from(IDS), st.sampled_from([Op.EQ, Op.CONTAINS, Op.STARTSWITH]))
def test_ids_are_texts_to_a_filter(key: str, value: str, op: Op) -> None:
    document = plain(Sample(), key)
    for where in (Compare("id", op, value), Compare("id", Op.IN, (value, "x"))):
        for each in (where, Not(where)):
            assert meets(asked(each), stored(document)) is matches(each, document)


def test_ids_have_one_order_for_filters_and_sorts() -> None:
    documents = [stored(plain(Sample(), key)) for key in IDS]
    in_order = [DOCUMENTS.decode(each)["id"] for each in sorted_as(documents, QUERIES.sort(()))]
    for place, key in enumerate(in_order):
        found = {
            op: [DOCUMENTS.decode(each)["id"] for each in documents if meets(asked(Compare("id", op, key)), each)]
            for op in (Op.LT, Op.LE, Op.GT, Op.GE)
        }
        assert sorted(found[Op.GT]) == sorted(in_order[place + 1 :])
        assert sorted(found[Op.GE]) == sorted(in_order[place:])
        assert sorted(found[Op.LT]) == sorted(in_order[:place])
        assert sorted(found[Op.LE]) == sorted(in_order[: place + 1])


PLAIN: list[tuple[Any, dict[str, Any] | None]] = [
    ({"text": "a"}, {"text": "a"}),
    ({"text": "a", "whole": 1}, {"text": "a", "whole": 1}),
    ({"text": None}, {"text": None}),
    ({"text": {"$ne": "a"}}, {"text": {"$ne": "a"}}),
    ({"text": {"$exists": True}}, {"text": {"$ne": None}}),
    ({"text": {"$in": ["a", None]}}, {"text": {"$in": [None, "a"]}}),
    ({"text": {"$nin": ["a", "b"]}}, {"text": {"$nin": ["a", "b"]}}),
    ({"text": {"$in": []}}, {"_id": {"$in": []}}),
    ({"text": 5}, {"_id": {"$in": []}}),
    ({"text": {"$startswith": "ab"}}, {"text": {"$gte": "ab", "$lt": "ac"}}),
    ({"text": {"$contains": "a.*"}}, {"text": {"$regex": r"a\.\*"}}),
    ({"whole": {"$gt": 2, "$lt": 9}}, {"whole": {"$gt": 2, "$lt": 9}}),
    ({"whole": {"$gt": 2.5}}, {"whole": {"$gte": 3}}),
    ({"flag": 1}, {"_id": {"$in": []}}),
    ({"day": date(2026, 1, 10)}, {"day": "2026-01-10"}),
    ({"exact": Decimal("1.5")}, {"exact": Decimal128("1.5"), "~exact.tail": None}),
    ({"id": "507f1f77bcf86cd799439011"}, {"_id": ObjectId("507f1f77bcf86cd799439011")}),
    ({"$or": [{"text": "a"}, {"whole": 1}]}, {"$or": [{"text": "a"}, {"whole": 1}]}),
    ({"items": {"$contains": "a"}}, None),
    ({"nested.a": "x"}, {"nested.a": {"$eq": "x", "$not": {"$type": "array"}}, "nested": {"$not": {"$type": "array"}}}),
]


@pytest.mark.parametrize(("given_", "query"), PLAIN, ids=lambda each: ascii(each)[:40])
def test_what_an_index_serves_stays_plain(given_: Any, query: dict[str, Any] | None) -> None:
    found = QUERIES.query(to_predicate(given_))
    if query is not None:
        assert found == query
    else:
        assert {"items": {"$elemMatch": {"$eq": "a"}}} in found["$or"]


def test_a_long_text_is_no_regular_expression() -> None:
    where = Compare("text", Op.CONTAINS, "a" * 100_000)
    assert "$expr" in QUERIES.query(where)
    for text, expected in (("b" + "a" * 100_001, True), ("a", False), (None, False)):
        document = plain(Sample(text=text), "1")
        assert meets(asked(where), stored(document)) is expected is matches(where, document)


def test_a_deep_filter_is_within_the_depth_of_bson() -> None:
    where: Predicate = F.nested.a.b == 1
    for _ in range(15):
        where = Not(Or((where, Compare("text", Op.EQ, "a"))))
    bson.encode(QUERIES.query(where), codec_options=NAIVE)


def test_bytes_sort_by_a_text_of_them() -> None:
    with pytest.raises(UnsupportedOperationError):
        QUERIES.sort([Order("nested")])
    for low, high in ((b"", b"\0"), (b"ab", b"b"), (b"\xff", b"\xff\0")):
        for op, expected in ((Op.LT, True), (Op.LE, True), (Op.GT, False), (Op.GE, False)):
            assert meets(asked(Compare("data", op, high)), stored(plain(Sample(data=low), "1"))) is expected
    assert not meets(asked(Compare("data", Op.LT, b"a")), stored(plain(Sample(), "1")))


@often
@example(Decimal("1" * 34), Decimal("1" * 34 + ".5"), Op.LT)
@example(Decimal("1" * 34), Decimal("1" * 34 + ".5"), Op.GE)
@given(numbers, numbers, st.sampled_from([Op.EQ, Op.LT, Op.LE, Op.GT, Op.GE]))
def test_numbers_beyond_bson_compare_exactly(number: Decimal, value: Decimal, op: Op) -> None:
    for entity, path in ((Sample(exact=number), "exact"), (Sample(nested={"a": number}), "nested.a")):
        document = plain(entity, "1")
        where = Compare(path, op, value)
        assert meets(asked(where), stored(document)) is matches(where, document)


@pytest.mark.parametrize("prefix", ["\ud7ff", "\U0010ffff", "a\U0010ffff", "\U0001f600", "z"], ids=ascii)
def test_the_end_of_a_range_of_texts(prefix: str) -> None:
    where = Compare("text", Op.STARTSWITH, prefix)
    for text in (prefix, f"{prefix}a", f"{prefix}\U0010ffff", "\ue000", "b", "\ud7fe", "\U0010ffff"):
        document = plain(Sample(text=text), "1")
        assert meets(asked(where), stored(document)) is matches(where, document)
