"""The short way from a document to BSON gives what the long one gives, or nothing."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import bson
import pytest
from bson import Decimal128, Int64, ObjectId
from bson.codec_options import CodecOptions
from pydantic import BaseModel

from app.core.errors import AppError, InvalidChangeError, MigrationError
from app.db.backends import _mongodb_plain
from app.db.backends._mongodb_documents import Documents
from app.db.backends.base import CollectionSchema
from app.db.models.schema import schema_of

NAIVE: CodecOptions[dict[str, Any]] = CodecOptions(uuid_representation=4)
HEX = "507f1f77bcf86cd799439011"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Thing(BaseModel):
    id: str
    text: str | None = "default"
    whole: int = 0
    number: float = 0.0
    flag: bool = False
    made: datetime
    changed: datetime | None = None
    day: date | None = None
    key: UUID | None = None
    octets: bytes = b""
    tags: list[str] = []
    anything: Any = None


class Priced(Thing):
    price: Decimal | None = None


SCHEMA = CollectionSchema("things", "id", schema_of(Thing).fields)
THING = schema_of(Thing).document(Thing(id=HEX, made=NOON, day=date(2026, 1, 2), key=UUID(int=5), tags=["a"]))


def documents(*, short: bool = True, monkeypatch: pytest.MonkeyPatch | None = None) -> Documents:
    made = Documents(SCHEMA)
    if not short:
        assert monkeypatch
        monkeypatch.setattr(made._plain, "encode", lambda _: None)
        monkeypatch.setattr(made._plain, "decode", lambda _: None)
    return made


def stored(document: dict[str, Any]) -> dict[str, Any]:
    """As a server has it, to which aware and naive datetimes are one."""
    return bson.decode(bson.encode(document, codec_options=NAIVE), NAIVE)


def outcome(work: Callable[[Any], Any], given: Any, seen: Callable[[Any], Any] = dict) -> Any:
    try:
        result = seen(work(given))
    except AppError as error:
        return type(error), str(error)
    return {name: (type(value), value) for name, value in result.items()}


GIVEN: list[dict[str, Any]] = [
    THING,
    {**THING, "id": "no-object-id"},
    {**THING, "id": HEX.upper()},
    {**THING, "changed": NOON + timedelta(milliseconds=7), "text": None, "day": None, "key": None},
    {**THING, "whole": 2**63 - 1, "octets": b"\0", "flag": True},
    {**THING, "anything": {"$a.b": [date(2026, 1, 1), 2**70]}},
    {**THING, "tags": [date(2026, 1, 1)]},
    {**THING, "made": None},
    {**THING, "whole": None},
    {**THING, "whole": True},
    {**THING, "whole": 1.0},
    {**THING, "number": 3},
    {**THING, "text": 7},
    {**THING, "day": NOON},
    {**THING, "key": "5"},
    dict(reversed(THING.items())),
    {"a.b" if name == "text" else name: value for name, value in THING.items()},
    {name: value for name, value in THING.items() if name != "text"},
]


@pytest.mark.parametrize("given", GIVEN)
def test_a_document_is_encoded_as_field_by_field(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = outcome(documents(short=False, monkeypatch=monkeypatch).encode, given, stored)
    before = dict(given)
    mine = documents()
    mine.encode(THING)  # whose types are known from now on
    for _ in range(2):
        assert outcome(mine.encode, given, stored) == expected
    assert given == before


def test_the_key_comes_first_and_a_known_shape_is_encoded_in_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = documents()
    monkeypatch.setattr(mine, "encode_field", None)
    assert next(iter(mine.encode(THING).items())) == ("_id", ObjectId(HEX))
    monkeypatch.setattr(mine._plain, "_fit", None)
    assert mine.encode({**THING, "text": "another"})["text"] == "another"
    with pytest.raises(TypeError):
        mine.encode({**THING, "text": 7})


def test_no_more_shapes_are_remembered_than_a_thousand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_mongodb_plain, "_MOST_REMEMBERED", 1)
    mine = documents()
    for given in (THING, {**THING, "text": None}):
        assert mine.encode(given)["text"] == given["text"]
    assert len(mine._plain._right) == 1


def test_each_record_has_its_own_moments() -> None:
    mine = documents()
    for given in (NOON, NOON + timedelta(hours=1), NOON):
        stored = mine.encode({**THING, "made": given, "changed": given + timedelta(seconds=1)})
        assert [stored["made"], stored["changed"]] == [
            each.replace(tzinfo=None) for each in (given, given + timedelta(seconds=1))
        ]


STORED = Documents(SCHEMA).encode({**THING, "changed": NOON})


@pytest.mark.parametrize(
    "given",
    [
        STORED,
        dict(reversed(STORED.items())),
        {**STORED, "_id": "another", "whole": Int64(2**40)},
        {**STORED, "text": None, "changed": None},
        {**STORED, "unknown": 1},
        {name: value for name, value in STORED.items() if name != "text"},
        {name: value for name, value in STORED.items() if name != "made"},
        {**STORED, "tags": [NOON.replace(tzinfo=None)], "anything": {"~0": Int64(1)}},
        {**STORED, "made": "yesterday"},
        {**STORED, "day": "tomorrow"},
    ],
)
def test_a_document_is_decoded_as_field_by_field(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = outcome(documents(short=False, monkeypatch=monkeypatch).decode, given)
    before = dict(given)
    assert outcome(documents().decode, given) == expected
    assert given == before


def test_what_was_stored_is_decoded_in_one_look_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = documents()
    monkeypatch.setattr(mine, "_places", None)
    assert mine.decode(STORED) == mine.decode(dict(reversed(STORED.items()))) == {**THING, "changed": NOON}


def test_a_decimal_and_none_in_its_place_are_not_plain() -> None:
    mine = Documents(CollectionSchema("priced", "id", schema_of(Priced).fields))
    for price in (None, Decimal("1.5"), Decimal("9" * 40)):
        values, removed = mine.assignments({**THING, "price": price})
        assert ("~price" in values, removed) == ((True, []) if price == Decimal("9" * 40) else (False, ["~price"]))
        assert mine.decode(stored(values)) == {**THING, "price": price}
    with pytest.raises(MigrationError, match=r"priced\.price"):
        mine.decode({**STORED, "price": 1.5})
    assert mine.decode({**STORED, "price": Decimal128("1.50")})["price"] == Decimal("1.50")


def test_errors_name_the_field() -> None:
    with pytest.raises(InvalidChangeError, match=r"things\.whole"):
        documents().encode({**THING, "whole": "1"})
    with pytest.raises(MigrationError, match=r"things\.made"):
        documents().decode({**STORED, "made": 5})


def test_several_are_decoded_as_each_by_itself() -> None:
    mine = documents()
    plain = {**STORED, "_id": ObjectId(), "whole": Int64(2**40), "anything": {"~0": Int64(1)}}
    for given in ([STORED, plain], [STORED, {**plain, "unknown": 1}, plain], []):
        assert mine.decode_all(given) == [mine.decode(each) for each in given]
    assert mine.decode_all([STORED, plain], ("text",)) == [mine.decode(each, ("text",)) for each in (STORED, plain)]
    assert mine.decode_all([STORED, plain], ("text",))[0].keys() == {"id", "text"}
    with pytest.raises(MigrationError, match=r"things\.made"):
        mine.decode_all([STORED, {**STORED, "made": 5}])
