"""Signup sessions on Redis: their keys, their clock, and the script that splices text."""

import asyncio
import json
import random
from typing import Any

import pytest

from app.core.errors import MigrationError, StoreUnavailableError
from app.db import DataLayer
from app.db.backends._json import decode_json, encode_json
from app.db.backends._redis_documents import splice_arguments
from app.db.backends._redis_scripts import run
from app.db.backends._redis_splice import SPLICE
from app.db.repositories.signup_session_repository import SignupSessionRepository


@pytest.fixture
def store() -> str:
    return "redis"


@pytest.fixture
def redis(data: DataLayer) -> Any:
    """The manager, whose commands are the client's."""
    return data.connection("redis")


@pytest.fixture
def sessions(data: DataLayer) -> SignupSessionRepository:
    return data.repository(SignupSessionRepository)


async def test_a_session_is_a_json_string_that_expires(redis: Any, sessions: SignupSessionRepository) -> None:
    await sessions.create_session("550e8400", {"current_step": "EMAIL", "é": []})
    assert await redis.keys("*") == ["signup:550e8400"]
    assert await redis.type("signup:550e8400") == "string"
    assert 299_000 < await redis.pttl("signup:550e8400") <= 300_000
    stored = json.loads(await redis.get("signup:550e8400"))
    assert stored.pop("created_at") == stored.pop("last_updated")
    assert stored == {"session_id": "550e8400", "attempt_count": 0, "current_step": "EMAIL", "é": []}


async def test_a_session_that_another_program_wrote(redis: Any, sessions: SignupSessionRepository) -> None:
    written = {
        "session_id": "s",
        "created_at": 1.5,
        "last_updated": 1.5,
        "attempt_count": 1,
        "é\n": [1, "]"],
        "x": {"}": "\\"},
    }
    await redis.set("signup:s", json.dumps(written, indent=2), ex=100)
    assert await sessions.get_session("s") == written
    assert await sessions.update_session("s", {"é\n": [2], "new": 2**70})
    assert await sessions.record_validation("s", "email", True)
    session = await sessions.get_session("s")
    assert session is not None
    assert (session["é\n"], session["new"], session["x"]) == ([2], 2**70, {"}": "\\"})
    assert (await redis.get("signup:s")).count('"new"') == 1


async def test_which_calls_give_a_session_its_time_again(redis: Any, sessions: SignupSessionRepository) -> None:
    await sessions.create_session("s")

    async def left_after(call: Any) -> int:
        await redis.pexpire("signup:s", 50_000)
        assert await call
        return round(int(await redis.pttl("signup:s")) / 1000)

    assert await left_after(sessions.update_session("s", {"a": 1})) == 300
    assert await left_after(sessions.update_field("s", "a", 1)) == 300
    assert await left_after(sessions.record_validation("s", "a", True)) == 300
    assert await left_after(sessions.refresh_ttl("s")) == 300
    assert await left_after(sessions.extend_ttl("s", 1000)) == 1000
    assert await left_after(sessions.extend_ttl("s")) == 300
    assert await left_after(sessions.increment_attempt("s")) == 50
    assert await left_after(sessions.session_exists("s")) == 50


@pytest.mark.parametrize("before", [0, -1, -5, 41, 2**52 - 1, 2**52, 2**53, 2**60 + 1, 2**62, None])
async def test_a_count_is_exact(redis: Any, sessions: SignupSessionRepository, before: int | None) -> None:
    await sessions.create_session("s", {"x": [2**60 + 1, 1.0, []]})
    text = await redis.get("signup:s")
    await redis.set("signup:s", text.replace('"attempt_count":0', f'"attempt_count":{json.dumps(before)}'), ex=300)
    counts = await asyncio.gather(*(sessions.increment_attempt("s") for _ in range(3)))
    assert sorted(counts) == [(before or 0) + i for i in (1, 2, 3)]
    session = await sessions.get_session("s")
    assert session is not None
    assert repr((session["attempt_count"], session["x"])) == repr(((before or 0) + 3, [2**60 + 1, 1.0, []]))


async def test_a_session_that_has_ended_is_absent(redis: Any, sessions: SignupSessionRepository) -> None:
    await sessions.create_session("s", {"step": 1})
    await redis.pexpire("signup:s", 20)
    await asyncio.sleep(0.04)
    assert await sessions.get_session("s") is None
    assert not await sessions.session_exists("s")
    assert not await sessions.update_session("s", {"a": 1})
    assert not await sessions.record_validation("s", "a", True)
    assert await sessions.increment_attempt("s") == 0
    assert not await sessions.refresh_ttl("s")
    assert not await sessions.delete_session("s")
    assert await redis.keys("*") == []
    assert await sessions.create_session("s", {"step": 2})


async def test_updates_of_two_applications_all_survive(config: dict[str, Any]) -> None:
    async with DataLayer.from_config(config) as one, DataLayer.from_config(config) as two:
        layers = [layer.repository(SignupSessionRepository) for layer in (one, two)]
        await layers[0].create_session("s")
        calls = [layers[i % 2].update_field("s", f"f{i}", i) for i in range(50)]
        counts = [layers[i % 2].increment_attempt("s") for i in range(40)]
        assert all(await asyncio.gather(*calls))
        assert sorted(await asyncio.gather(*counts)) == list(range(1, 41))
        session = await layers[0].get_session("s")
        assert session is not None
        assert {f"f{i}": i for i in range(50)}.items() <= session.items()


# ---------------------------------------------------------------- the splice script

NAMES = [
    "a",
    "b",
    "",
    "a b",
    'q"',
    "back\\",
    "\\u0061",
    "é",
    "\U0001f600",
    "a.b",
    "$set",
    "{",
    "}",
    "[",
    ",",
    ":",
    "\n",
]
LEAVES: list[Any] = [
    *(None, True, False, 0, 1, -1, 1.0, -0.0, 0.1, 1e22, 5e-324, 2**53 + 1, 2**60 + 1, -(2**70), 10**40),
    *("", "}", '"', "\\", '\\"', "]}", '{"a":1}', "é\u2028", "\x1f", "null", "a,b:c", [], {}, [[]], {"a": {}}),
]


class Merges:
    """Random documents and changes."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def value(self, depth: int = 3) -> Any:
        kind = self.chance.random()
        if depth == 0 or kind < 0.6:
            return self.chance.choice(LEAVES)
        if kind < 0.8:
            return [self.value(depth - 1) for _ in range(self.chance.randrange(4))]
        return self.document(depth - 1)

    def document(self, depth: int = 3) -> dict[str, Any]:
        return {self.chance.choice(NAMES): self.value(depth) for _ in range(self.chance.randrange(5))}

    def text(self, document: dict[str, Any]) -> str:
        """As we write it, or as another program would."""
        own = encode_json(document)
        match self.chance.randrange(4):
            case 0:
                return json.dumps(json.loads(own))
            case 1:
                return json.dumps(json.loads(own), indent=1, ensure_ascii=False)
        return own


async def test_three_thousand_hostile_merges(redis: Any) -> None:
    merges = Merges(3)
    client = await redis.connect()

    async def merge(number: int) -> None:
        key = f"merge:{number}"
        document, changes = merges.document(), merges.document()
        appends = {name: merges.value() for name in merges.chance.sample(NAMES, merges.chance.randrange(3))}
        text = merges.text(document)
        await redis.set(key, text)
        counts = (0, len(changes), len(appends), 0)
        arguments = ["", 1, *counts, *splice_arguments(changes), *splice_arguments(appends)]
        spliced = await run(client, SPLICE, [key], arguments)
        expected = {**document, **changes}
        for name, item in appends.items():
            present = expected.get(name)
            expected[name] = [*(present if isinstance(present, list) else []), item]
        assert encode_json(decode_json(spliced)) == encode_json(expected), (text, changes, appends)
        assert await redis.get(key) == spliced

    for start in range(0, 3000, 100):
        await asyncio.gather(*(merge(number) for number in range(start, start + 100)))


async def test_a_text_that_is_no_json_is_left_alone(redis: Any, sessions: SignupSessionRepository) -> None:
    for text in ('{"a":', '{"a', "5", "", "[1", '{"a":1'):
        await redis.set("signup:s", text)
        with pytest.raises(StoreUnavailableError):
            await sessions.update_field("s", "b", 1)
        with pytest.raises(MigrationError, match="signup"):
            await sessions.get_session("s")
        assert await redis.get("signup:s") == text
