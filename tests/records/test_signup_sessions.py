"""Signup sessions on every store, line by line as the contract has them."""

import asyncio
import copy
import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from argon2 import PasswordHasher
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.db import DataLayer, RepositoryRegistry
from app.db.repositories.signup_session_repository import SignupSessionRepository


@pytest.fixture
def sessions(data: DataLayer) -> SignupSessionRepository:
    return data.repository(SignupSessionRepository)


async def test_the_samples_of_the_specification(data: DataLayer) -> None:
    assert (SignupSessionRepository.KEY_PREFIX, SignupSessionRepository.SESSION_TTL) == ("signup", 300)
    assert RepositoryRegistry.get("signup_session") is data.repository("signup_session")
    repo = SignupSessionRepository()
    session_id = "550e8400-e29b-41d4-a716-446655440000"
    before = time.time()
    assert await repo.create_session(session_id=session_id, initial_data={"current_step": "EMAIL"}) is True
    session = await repo.get_session(session_id)
    assert session is not None
    assert before <= session["created_at"] == session["last_updated"] <= time.time()
    assert isinstance(session["created_at"], float)
    del session["created_at"], session["last_updated"]
    assert session == {"session_id": session_id, "attempt_count": 0, "current_step": "EMAIL"}
    assert await repo.update_session(
        session_id=session_id, update_data={"email": "john@example.com", "current_step": "USERNAME"}
    )
    assert await repo.update_field(session_id=session_id, field="username", value="johndoe") is True
    assert await repo.increment_attempt(session_id) == 1
    assert await repo.refresh_ttl(session_id) is True
    session = await repo.get_session(session_id)
    assert session is not None
    assert session["last_updated"] > before
    assert session["email"] == "john@example.com"
    assert session["username"] == "johndoe"
    assert session["current_step"] == "USERNAME"
    assert session["attempt_count"] == 1
    assert await repo.session_exists(session_id) is True
    assert await repo.delete_session(session_id) is True
    assert await repo.session_exists(session_id) is False


async def test_a_live_id_is_not_taken_twice(sessions: SignupSessionRepository) -> None:
    assert await sessions.create_session("s", {"step": 1})
    assert await sessions.create_session("s", {"step": 2}) is False
    session = await sessions.get_session("s")
    assert session is not None
    assert session["step"] == 1
    results = await asyncio.gather(*(sessions.create_session("t") for _ in range(50)))
    assert sum(results) == 1


async def test_reserved_keys_lose(sessions: SignupSessionRepository) -> None:
    forged = {"session_id": "other", "created_at": 1.0, "last_updated": 1.0, "attempt_count": 9, "step": "A"}
    await sessions.create_session("s", forged)
    session = await sessions.get_session("s")
    assert session is not None
    assert session["session_id"] == "s"
    assert session["created_at"] > 1.0
    assert session["attempt_count"] == 0
    assert await sessions.update_session("s", forged)
    again = await sessions.get_session("s")
    assert again is not None
    assert (again["attempt_count"], again["created_at"]) == (0, session["created_at"])
    for name in ("session_id", "created_at", "last_updated", "attempt_count"):
        with pytest.raises(ValueError, match=name):
            await sessions.update_field("s", name, 5)


async def test_what_is_absent_is_false(sessions: SignupSessionRepository) -> None:
    assert await sessions.get_session("none") is None
    assert await sessions.update_session("none", {"a": 1}) is False
    assert await sessions.update_session("none", data={"a": 1}) is False
    assert await sessions.update_field("none", "a", 1) is False
    assert await sessions.record_validation("none", "email", True) is False
    assert await sessions.delete_session("none") is False
    assert await sessions.session_exists("none") is False
    assert await sessions.refresh_ttl("none") is False
    assert await sessions.extend_ttl("none", 5) is False
    assert await sessions.increment_attempt("none") == 0
    assert await sessions.count() == 0


async def test_fifty_concurrent_updates_of_fifty_fields_survive(sessions: SignupSessionRepository) -> None:
    await sessions.create_session("s")
    assert all(await asyncio.gather(*(sessions.update_field("s", f"field{i}", i) for i in range(50))))
    session = await sessions.get_session("s")
    assert session is not None
    assert {f"field{i}": i for i in range(50)}.items() <= session.items()


async def test_twenty_concurrent_increments_count_to_twenty(sessions: SignupSessionRepository) -> None:
    await sessions.create_session("s")
    counts = await asyncio.gather(*(sessions.increment_attempt("s") for _ in range(20)))
    assert sorted(counts) == list(range(1, 21))


class Clock:
    """Moves the clock that the repository and the store read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.offset = 0.0
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + self.offset)


@pytest.fixture
def clock(store: str, monkeypatch: pytest.MonkeyPatch) -> Clock:
    if store != "sqlite":
        pytest.skip("the store has a clock of its own")
    return Clock(monkeypatch)


async def test_a_session_ends_after_its_time(sessions: SignupSessionRepository, clock: Clock) -> None:
    await sessions.create_session("s", {"step": 1})
    clock.offset = 299
    assert await sessions.session_exists("s")
    clock.offset = 301
    assert await sessions.get_session("s") is None
    assert await sessions.session_exists("s") is False
    assert await sessions.update_session("s", {"a": 1}) is False
    assert await sessions.increment_attempt("s") == 0
    assert await sessions.refresh_ttl("s") is False
    assert await sessions.delete_session("s") is False
    assert await sessions.create_session("s", {"step": 2}) is True
    session = await sessions.get_session("s")
    assert session is not None
    assert session["step"] == 2


async def test_updates_give_the_full_time_again_and_increments_do_not(
    sessions: SignupSessionRepository, clock: Clock
) -> None:
    for name in ("update", "field", "validation", "refresh", "increment"):
        await sessions.create_session(name)
    clock.offset = 200
    assert await sessions.update_session("update", {"a": 1})
    assert await sessions.update_field("field", "a", 1)
    assert await sessions.record_validation("validation", "a", True)
    assert await sessions.refresh_ttl("refresh")
    assert await sessions.increment_attempt("increment") == 1
    clock.offset = 301
    living = [
        name
        for name in ("update", "field", "validation", "refresh", "increment")
        if await sessions.session_exists(name)
    ]
    assert living == ["update", "field", "validation", "refresh"]
    clock.offset = 501
    assert [name for name in living if await sessions.session_exists(name)] == []


async def test_extending_counts_from_now(sessions: SignupSessionRepository, clock: Clock) -> None:
    await sessions.create_session("s")
    await sessions.create_session("t")
    clock.offset = 100
    assert await sessions.extend_ttl("s", seconds=1000)
    assert await sessions.extend_ttl("t")
    clock.offset = 399
    assert await sessions.session_exists("t")
    clock.offset = 401
    assert not await sessions.session_exists("t")
    clock.offset = 1099
    assert await sessions.session_exists("s")
    clock.offset = 1101
    assert not await sessions.session_exists("s")


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
async def test_a_time_is_positive(sessions: SignupSessionRepository, seconds: float) -> None:
    await sessions.create_session("s")
    with pytest.raises(ValueError, match="positive"):
        await sessions.extend_ttl("s", seconds)
    assert await sessions.session_exists("s")


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
keys = text | st.sampled_from(
    ["", "a.b", "$set", "$datetime", "$$", 'quo"te', "back\\slash", "'", "a b", "é", "_extra"]
)
numbers = st.one_of(
    st.integers(),
    st.sampled_from([2**53 + 1, 2**63, -(2**64) - 1, 2**200, 10**400]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([1.0, -0.0, 0.1, 1e22, 5e-324, 1.7976931348623157e308]),
)
values = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=8,
)
RESERVED = {"session_id", "created_at", "last_updated", "attempt_count", "password"}


def exact(value: object) -> str:
    """JSON text tells 1 from 1.0 and 0.0 from -0.0."""
    return json.dumps(value, sort_keys=True)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=st.dictionaries(keys, values, max_size=4), second=st.dictionaries(keys, values, max_size=4))
def test_values_come_back_as_they_went_in(
    config: dict[str, Any], first: dict[str, Any], second: dict[str, Any]
) -> None:
    first, second = ({k: v for k, v in each.items() if k not in RESERVED} for each in (first, second))

    async def run() -> None:
        async with DataLayer.from_config(config) as data:
            sessions = data.repository(SignupSessionRepository)
            await sessions.delete_session("s")
            given_first, given_second = copy.deepcopy(first), copy.deepcopy(second)
            assert await sessions.create_session("s", first)
            assert await sessions.update_session("s", second)
            for name, value in first.items():
                assert await sessions.update_field("s", name + "'", value)
            assert (exact(first), exact(second)) == (exact(given_first), exact(given_second))
            session = await sessions.get_session("s")
            assert session is not None
            expected = {**first, **second, **{name + "'": value for name, value in first.items()}}
            assert exact({k: v for k, v in session.items() if k not in RESERVED}) == exact(expected)

    asyncio.run(run())


@pytest.mark.parametrize(
    "value",
    [
        *({1, 2}, object(), b"bytes", float("nan"), float("-inf"), (1, 2), {1: "a"}, [{"a": {1}}]),
        *({"deep": float("inf")}, pytest.param(10**5000, id="huge"), datetime(2026, 1, 1, tzinfo=UTC)),
    ],
)
async def test_what_json_cannot_hold_is_refused_before_the_write(sessions: SignupSessionRepository, value: Any) -> None:
    with pytest.raises(TypeError):
        await sessions.create_session("s", {"good": 1, "bad": value})
    assert not await sessions.session_exists("s")
    await sessions.create_session("s")
    with pytest.raises(TypeError):
        await sessions.update_session("s", {"good": 1, "bad": value})
    with pytest.raises(TypeError):
        await sessions.update_field("s", "bad", value)
    session = await sessions.get_session("s")
    assert session is not None
    assert "good" not in session


@pytest.mark.parametrize("value", ["a\0b", "\ud800", ["\0"], {"a": "\0"}, {"\0": 1}])
async def test_text_without_a_home_is_a_value_error(sessions: SignupSessionRepository, value: Any) -> None:
    with pytest.raises(ValueError, match=r"U\+0000|surrogate"):
        await sessions.create_session("s", {"bad": value})
    assert not await sessions.session_exists("s")


@pytest.mark.parametrize("wrong", [None, 5, b"s"])
async def test_ids_are_text(sessions: SignupSessionRepository, wrong: Any) -> None:
    with pytest.raises(TypeError):
        await sessions.create_session(wrong)
    with pytest.raises(TypeError):
        await sessions.get_session(wrong)


@pytest.mark.parametrize("wrong", ["a\0", "\ud800"])
async def test_ids_are_text_that_has_a_home(sessions: SignupSessionRepository, wrong: str) -> None:
    with pytest.raises(ValueError, match=r"U\+0000|surrogate"):
        await sessions.create_session(wrong)
    with pytest.raises(ValueError, match=r"U\+0000|surrogate"):
        await sessions.get_session(wrong)


async def test_a_value_that_contains_itself_or_nests_without_end_is_refused(sessions: SignupSessionRepository) -> None:
    endless: list[Any] = []
    endless.append(endless)
    deep: list[Any] = []
    for _ in range(2000):
        deep = [deep]
    for value in (endless, deep):
        with pytest.raises(TypeError):
            await sessions.create_session("s", {"bad": value})
    fine: list[Any] = []
    for _ in range(80):
        fine = [fine]
    assert await sessions.create_session("s", {"fine": fine})
    session = await sessions.get_session("s")
    assert session is not None
    assert session["fine"] == fine


async def test_a_password_is_stored_as_its_hash(sessions: SignupSessionRepository) -> None:
    data = {"password": "correct horse", "step": "PASSWORD"}
    await sessions.create_session("a", data)
    assert data == {"password": "correct horse", "step": "PASSWORD"}
    await sessions.create_session("b")
    await sessions.update_session("b", data)
    await sessions.create_session("c")
    await sessions.update_field("c", "password", "correct horse")
    for session_id in "abc":
        session = await sessions.get_session(session_id)
        assert session is not None
        assert "password" not in session
        assert "correct horse" not in json.dumps(session)
        assert PasswordHasher().verify(session["password_hash"], "correct horse")


async def test_hashing_does_not_hold_up_the_loop(sessions: SignupSessionRepository) -> None:
    await sessions.create_session("s")
    task = asyncio.create_task(sessions.update_field("s", "password", "correct horse"))
    turns = 0
    while not task.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 10


async def test_validations_are_appended(sessions: SignupSessionRepository) -> None:
    await sessions.create_session("s")
    assert await sessions.record_validation("s", "email", False, "no @")
    await asyncio.gather(*(sessions.record_validation("s", f"f{i}", True) for i in range(10)))
    session = await sessions.get_session("s")
    assert session is not None
    first, *others = session["validations"]
    assert {"field": "email", "ok": False, "message": "no @"}.items() <= first.items()
    assert sorted(each["field"] for each in others) == sorted(f"f{i}" for i in range(10))


async def test_the_changes_are_given_once(sessions: SignupSessionRepository) -> None:
    with pytest.raises(TypeError):
        await sessions.update_session("s")
    with pytest.raises(TypeError):
        await sessions.update_session("s", {"a": 1}, data={"a": 1})
