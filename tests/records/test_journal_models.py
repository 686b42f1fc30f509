"""History and audit log of models that are not like most: other keys, fields beyond the model, a time to live."""

import asyncio
import re
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import ConfigDict, Field

from app.db import DataLayer, Entity, Repository, Versioned

from .stand_in import stands_in

PAGE = Path(__file__).parents[2] / "docs" / "history-and-audit.md"


class Parcel(Versioned):
    model_config = ConfigDict(extra="allow")

    code: UUID = Field(default_factory=uuid4)
    price: Decimal = Decimal(0)
    sent: date | None = None
    content: bytes = b""


class Parcels(Repository[Parcel]):
    key = "code"
    keeps_history = True
    audited = True


class Numbered(Versioned):
    number: int
    text: str = ""


class Numbers(Repository[Numbered]):
    key = "number"
    keeps_history = True
    audited = True


class Ticket(Entity, Versioned):
    text: str = ""


class Tickets(Repository[Ticket]):
    ttl = 0.4
    keeps_history = True
    audited = True


@pytest.fixture(autouse=True)
def _not_on_the_stand_in(store: str) -> None:
    if stands_in(store):
        pytest.skip("the stand-in for MongoDB stores no UUID, binary or Decimal128, and gives datetimes back as text")


async def test_every_kind_of_value_comes_back(data: DataLayer) -> None:
    parcels = data.repository(Parcels)
    first = Parcel.model_validate(
        {"price": Decimal("1.10"), "sent": date(2026, 1, 10), "content": b"\0\xff", "beyond": {"a": [Decimal("2.50")]}}
    )
    await parcels.create(first)
    assert await parcels.update(first.code, {"price": Decimal("2.20"), "sent": None, "other": 1}) is not None
    states = await parcels.history(first.code)
    assert [state.entity for state in states] == [first, await parcels.get(first.code)]
    newest, oldest = await parcels.audit_log(first.code)
    assert oldest.after["content"] == b"\0\xff"
    assert newest.before == {"version": 1, "price": Decimal("1.10"), "sent": date(2026, 1, 10)}
    assert newest.after == {"version": 2, "price": Decimal("2.20"), "sent": None, "other": 1}
    reverted = await parcels.revert(first.code, 1)
    assert reverted.model_dump(exclude={"version"}) == {**first.model_dump(exclude={"version"}), "other": 1}
    assert await parcels.history(uuid4()) == []


async def test_a_number_is_a_key(data: DataLayer) -> None:
    numbers = data.repository(Numbers)
    await numbers.create_many([Numbered(number=1), Numbered(number=11)])
    await numbers.update(1, {"text": "a"})
    assert [state.version for state in await numbers.history(1)] == [1, 2]
    assert [entry.action for entry in await numbers.audit_log(11)] == ["CREATE"]
    assert await numbers.audit_log("x") == []


async def test_an_expired_record_leaves_its_id_to_another(data: DataLayer) -> None:
    tickets = data.repository(Tickets)
    await tickets.create(Ticket(id="1", text="old"))
    await tickets.update("1", {"text": "older"})
    await asyncio.sleep(0.6)
    assert await tickets.history("1") == []
    assert await tickets.as_of("1", datetime.now(UTC)) is None
    await tickets.create(Ticket(id="1", text="new"))
    assert [state.entity.text for state in await tickets.history("1")] == ["new"]
    assert [entry.action for entry in await tickets.audit_log("1")] == ["CREATE", "UPDATE", "CREATE"]


async def test_what_was_there_before_is_told_from_the_record(config: dict[str, Any], store: str) -> None:
    sections = {"numbereds": {"connection": store, "keeps_history": False, "audited": False}}
    async with DataLayer.from_config({**config, "repositories": sections}) as data:
        numbers = data.repository(Numbers)
        await numbers.create(Numbered(number=1, text="a"))
        await numbers.update(1, {"text": "b"})
    async with DataLayer.from_config(config) as data:
        numbers = data.repository(Numbers)
        assert [(state.version, state.entity.text) for state in await numbers.history(1)] == [(2, "b")]
        await numbers.update(1, {"text": "c"})
        assert [state.version for state in await numbers.history(1)] == [3]
        [entry] = await numbers.audit_log(1)
        assert (entry.before["text"], entry.after["text"]) == ("b", "c")


def test_the_samples_of_the_page_run(tmp_path: Path, store: str) -> None:
    if store != "sqlite":
        pytest.skip("the page is about SQLite")
    samples = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL))
    result = subprocess.run(
        [sys.executable, "-c", samples], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
