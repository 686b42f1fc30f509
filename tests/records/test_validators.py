"""Validators of an application's model: they run when a record is read, so a write makes sure that they can."""

import asyncio
from pathlib import Path
from typing import Annotated, Any, Self

import pytest
from pydantic import AfterValidator, BeforeValidator, EmailStr, ValidationInfo, field_validator, model_validator

from app.core.errors import DuplicateRecordError, InvalidChangeError
from app.db import DataLayer, Entity, Repository
from app.db.backends import Index
from app.db.models.user import UserInDB
from app.db.repositories.user_repository import UserRepository


class Span(Entity):
    start: int
    end: int
    note: str = ""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.end < self.start:
            raise ValueError("it ends before it starts")
        return self


class Priced(Entity):
    cents: Annotated[int, BeforeValidator(lambda value: int(value * 100))] = 1
    hashed: Annotated[str, AfterValidator(lambda value: f"hash:{value}")] = ""


class Polite(Entity):
    name: Annotated[str, AfterValidator(str.title)] = "Nobody"
    address: EmailStr = "nobody@example.com"


class Crossed(Entity):
    low: int
    high: int = 9

    @field_validator("high")
    @classmethod
    def _above(cls, value: int, info: ValidationInfo) -> int:
        if value < info.data["low"]:
            raise ValueError("below low")
        return value


class Ticket(Entity):
    code: str


class Tickets(Repository[Ticket]):
    indexes = (Index("code", unique=True),)
    ttl = 0.2


async def test_a_change_that_the_whole_record_refuses_is_not_written(data: DataLayer) -> None:
    spans = data.repository(Span)
    span = await spans.create(Span(start=1, end=5))
    for change in (
        lambda: spans.update(span.id, {"end": 0}),
        lambda: spans.update_many({"start": 1}, {"end": 0}),
        lambda: spans.increment(span.id, "end", -5),
        lambda: spans.compare_and_set(span.id, {"end": 5}, {"end": 0}),
    ):
        with pytest.raises(InvalidChangeError, match="it ends before it starts"):
            await change()
    assert await spans.all() == [span]
    assert await spans.update(span.id, {"end": 2}) == Span(id=span.id, start=1, end=2)
    assert await spans.increment(span.id, "end", 3) == 5


async def test_validators_that_do_not_keep_what_they_returned_are_told_before_the_write(data: DataLayer) -> None:
    priced = data.repository(Priced)
    for wrong in (Priced(cents=1.5), Priced.model_construct(id="a", cents=0, hashed="hash:x")):
        with pytest.raises(InvalidChangeError, match="let it keep what it returned before"):
            await priced.create(wrong)
    with pytest.raises(InvalidChangeError, match="hashed: its validator changes what is stored"):
        await priced.update("any", {"hashed": "y"})
    assert await priced.count() == 0


async def test_validators_that_keep_it_work(data: DataLayer) -> None:
    polite = data.repository(Polite)
    made = await polite.create(Polite(name="ada lovelace"))
    assert (await polite.get_or_raise(made.id)).name == "Ada Lovelace"
    changed = await polite.update(made.id, {"name": "grace hopper", "address": "grace@EXAMPLE.com"})
    assert changed is not None
    assert (changed.name, changed.address) == ("Grace Hopper", "grace@example.com")


async def test_a_field_validator_that_looks_at_others_says_what_to_do(data: DataLayer) -> None:
    crossed = data.repository(Crossed)
    made = await crossed.create(Crossed(low=1, high=2))
    with pytest.raises(InvalidChangeError, match="has to be a model validator"):
        await crossed.update(made.id, {"high": 3})
    assert await crossed.update(made.id, {"low": 2}) == Crossed(id=made.id, low=2, high=2)


async def test_an_id_is_stored_as_it_is_looked_for(data: DataLayer) -> None:
    users = data.repository(UserRepository)
    values: dict[str, Any] = {"username": "john", "firstname": "John", "lastname": "Doe", "password_hash": "hash"}
    john = await users.create(UserInDB(id="507F1F77BCF86CD799439011", email="john@example.com", **values))
    for spelling in (john.id, "507f1f77bcf86cd799439011", "507F1F77BCF86CD799439011"):
        assert await users.get_user_by_id(spelling) == john
        assert await users.get(spelling) == john
    assert await users.update_user(john.id, {"firstname": "Jon"})
    assert await users.delete_user(john.id)
    with pytest.raises(ValueError, match="24 hex digits"):
        UserInDB(id="zzz", email="john@example.com", **values)


async def test_what_has_expired_blocks_no_value_on_update(tmp_path: Path) -> None:
    async with DataLayer.from_config({"data_dir": str(tmp_path)}) as data:
        tickets = data.repository(Tickets)
        await tickets.create(Ticket(id="a", code="x"))
        await asyncio.sleep(0.15)
        await tickets.create(Ticket(id="b", code="y"))
        with pytest.raises(DuplicateRecordError):
            await tickets.update("b", {"code": "x"})
        await asyncio.sleep(0.1)
        changed = await tickets.update("b", {"code": "x"})
        assert changed is not None
        assert changed.code == "x"
