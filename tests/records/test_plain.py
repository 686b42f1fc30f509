"""The compiled way from a record to its document gives what the slow one gives, or nothing."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any
from uuid import UUID

import numpy as np
import pytest
from pydantic import AfterValidator, BaseModel, Field

from app.core.errors import InvalidChangeError
from app.db.models.schema import ModelSchema
from app.db.models.values import storable, to_milliseconds


class Text(str):
    __slots__ = ()


class Whole(int):
    pass


class Colour(StrEnum):
    RED = "red"


class Size(IntEnum):
    BIG = 3


class Mixed(str, Enum):  # noqa: UP042 - its own kind of enum
    ONE = "one"


class Moment(datetime):
    pass


class Sample(BaseModel):
    id: str = "1"
    text: str = ""
    short: Annotated[str, Field(max_length=9), AfterValidator(str.strip)] = ""
    whole: int = 0
    number: float = 0.0
    flag: bool = False
    when: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    maybe: str | None = None
    texts: list[str] = []
    wholes: list[int] | None = None
    nested: list[list[str]] = []
    anything: Any = None
    key: UUID = UUID(int=1)
    colour: Colour = Colour.RED


_EAST = timezone(timedelta(hours=5))
VALUES: tuple[Any, ...] = (
    *("", "é", "a\nb", "\0", "a\0b", "\ud800", Text("t"), Colour.RED, Mixed.ONE),
    *(0, -(2**63), 2**63 - 1, 2**63, 2**70, Whole(4), Size.BIG, np.int64(3), True, False),
    *(0.0, -0.0, 1.5, float("nan"), float("inf"), np.float64(2.5)),
    *(datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=_EAST)),
    *(datetime(2026, 1, 1), datetime.min.replace(tzinfo=_EAST), Moment(2026, 1, 1, 0, 0, 0, 5, tzinfo=UTC)),  # noqa: DTZ001
    *(date(2026, 1, 1), UUID(int=7), b"\0", None, object()),
    *(
        [],
        ["a"],
        ("a",),
        {"a"},
        ["\0"],
        [Text("t")],
        [1, True],
        [2**63],
        [["a"]],
        {"a": [1]},
        {"a": "\0"},
        {"a": 1}.keys(),
    ),
)


@pytest.mark.parametrize("name", Sample.model_fields)
def test_a_document_is_what_storable_makes_of_each_value(name: str) -> None:
    schema = ModelSchema(Sample, "id")
    for value in VALUES:
        given: dict[str, Any] = {name: value}
        entity = Sample.model_construct(None, **given)
        found = _outcome(lambda given: schema.document(given)[name], entity)
        expected = _outcome(storable, value)
        assert found == expected, (value, found, expected)


@pytest.mark.parametrize("name", Sample.model_fields)
def test_the_compiled_way_accepts_nothing_else(name: str) -> None:
    schema = ModelSchema(Sample, "id")
    accepted = 0
    for value in VALUES:
        try:
            [found] = [schema._plain({**Sample().__dict__, name: value})[name]]
        except ValueError:
            continue
        accepted += 1
        assert _described(found) == _outcome(storable, value), value
        assert found is not value or not isinstance(value, list | dict), "the record and its document share a list"
    assert accepted


@pytest.mark.parametrize("name", Sample.model_fields)
def test_a_change_is_accepted_as_without_compiled_code(name: str) -> None:
    field = ModelSchema(Sample, "id").fields[name]
    for value in VALUES:
        assert _outcome(field.accept, value) == _outcome(replace(field, plain=None).accept, value), value


def test_a_change_is_accepted_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = ModelSchema(Sample, "id").fields
    monkeypatch.setattr("app.db.models.schema.storable", None)
    assert [fields["text"].accept("a"), fields["whole"].accept("7"), fields["maybe"].accept(None)] == ["a", 7, None]


def test_an_ordinary_record_takes_the_compiled_way(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = ModelSchema(Sample, "id")
    entity = Sample(texts=["a"], maybe="b", wholes=[1])
    expected = {name: storable(value) for name, value in entity.__dict__.items()}
    monkeypatch.setattr("app.db.models.schema.storable", None)
    assert schema.document(entity) == expected


def test_what_is_no_field_is_left_out_and_what_is_missing_is_named() -> None:
    schema = ModelSchema(Sample, "id")
    entity = Sample()
    entity.__dict__["cached"] = "of a cached_property"
    assert "cached" not in schema.document(entity)
    del entity.__dict__["whole"]
    with pytest.raises(InvalidChangeError, match="whole: has no value"):
        schema.document(entity)


def test_milliseconds_are_cut_and_the_fold_goes() -> None:
    value = datetime(1, 1, 1, 0, 0, 0, 999, tzinfo=UTC, fold=1)
    assert (to_milliseconds(value), to_milliseconds(value).fold) == (datetime(1, 1, 1, tzinfo=UTC), 0)
    whole = datetime(2026, 1, 1, tzinfo=UTC, fold=1)
    assert (to_milliseconds(whole), to_milliseconds(whole).fold) == (whole, 0)


def _outcome(make: Callable[[Any], Any], given: Any) -> object:
    """What is made of it, or that there was an error."""
    try:
        return _described(make(given))
    except ValueError:
        return ValueError


def _described(value: Any) -> object:
    return type(value), repr(value), [type(each) for each in value] if isinstance(value, list) else None
