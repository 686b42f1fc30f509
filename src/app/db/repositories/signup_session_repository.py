"""Signup sessions: schemaless JSON that expires, updated field by field so that concurrent updates all survive."""

import asyncio
import math
import time
from collections.abc import Mapping
from enum import Enum
from typing import Any

from argon2 import PasswordHasher

from ..models.signup_session import SignupSession
from ..models.values import MAX_NESTING, check_text
from ..query.operations import Count, Delete, Find, Insert, OnConflict, Update
from ..query.predicates import Compare, Op, Predicate
from .base import Repository
from .registry import RepositoryRegistry

_RESERVED = frozenset(SignupSession.model_fields)
_MOST_BITS = 14_000  # Python writes and reads integers of 4,300 digits


@RepositoryRegistry.register("signup_session", connections=("redis", "sqlite", "postgres", "mongodb"))
class SignupSessionRepository(Repository[SignupSession]):
    """Sessions are dicts. `session_id`, `created_at`, `last_updated` and `attempt_count` are the repository's own.

    A `password` in the data is stored as `password_hash` (argon2); the password itself never reaches the store.
    """

    KEY_PREFIX = "signup"
    SESSION_TTL = 300
    COLLECTION_NAME = KEY_PREFIX
    key = "session_id"
    ttl = SESSION_TTL

    async def create_session(self, session_id: str, initial_data: Mapping[str, Any] | None = None) -> bool:
        """Store a new session; False when the id is live. Reserved keys in the data lose."""
        data = await self._accept(initial_data or {})
        now = time.time()
        document = {**data, "session_id": _text(session_id), "created_at": now, "last_updated": now, "attempt_count": 0}
        return bool(await self._run(Insert((document,), on_conflict=OnConflict.SKIP, ttl=self._binding.ttl)))

    async def get_session(self, session_id: str) -> dict[str, Any] | None:
        documents = await self._run(Find(_is(session_id), limit=1))
        return documents[0] if documents else None

    async def update_session(
        self,
        session_id: str,
        update_data: Mapping[str, Any] | None = None,
        *,
        data: Mapping[str, Any] | None = None,
    ) -> bool:
        """Merge top-level fields into the session and give it a new five minutes; False when it is absent.

        Reserved keys in the data lose, so a session that was read may be changed and handed back.
        """
        if (update_data is None) == (data is None):
            raise TypeError("update_session takes the changes once, as update_data or as data")
        return await self._merge(session_id, await self._accept(update_data if update_data is not None else data or {}))

    async def update_field(self, session_id: str, field: str, value: Any) -> bool:
        if field in _RESERVED:
            raise ValueError(f"{field} is the repository's own and is not set by a caller")
        return await self._merge(session_id, await self._accept({field: value}))

    async def record_validation(self, session_id: str, field: str, ok: bool, message: str | None = None) -> bool:
        """Append to the list `validations` of the session; False when it is absent."""
        entry = _json({"field": field, "ok": ok, "message": message, "at": time.time()}, "validation")
        return await self._change(session_id, appends={"validations": entry})

    async def delete_session(self, session_id: str) -> bool:
        return bool(await self._run(Delete(_is(session_id), hard=True)))

    async def session_exists(self, session_id: str) -> bool:
        return bool(await self._run(Count(_is(session_id), limit=1)))

    async def increment_attempt(self, session_id: str) -> int:
        """Add one and return the new count, 0 when the session is absent. The time that is left stays."""
        documents = await self._run(
            Update(_is(session_id), {"last_updated": time.time()}, increments={"attempt_count": 1})
        )
        return int(documents[0]["attempt_count"]) if documents else 0

    async def refresh_ttl(self, session_id: str) -> bool:
        """Give the session its full time again, from now."""
        return bool(await self._run(Update(_is(session_id), ttl=self._binding.ttl, returning=False)))

    async def extend_ttl(self, session_id: str, seconds: float = SESSION_TTL) -> bool:
        """Let the session end this many seconds from now."""
        if not (seconds > 0 and math.isfinite(seconds)):
            raise ValueError("a session is extended by a positive number of seconds")
        return bool(await self._run(Update(_is(session_id), ttl=seconds, returning=False)))

    async def _merge(self, session_id: str, data: Mapping[str, Any]) -> bool:
        return await self._change(session_id, changes=data)

    async def _change(
        self, session_id: str, changes: Mapping[str, Any] | None = None, appends: Mapping[str, Any] | None = None
    ) -> bool:
        stamped = {**(changes or {}), "last_updated": time.time()}
        operation = Update(_is(session_id), stamped, appends=appends or {}, ttl=self._binding.ttl, returning=False)
        return bool(await self._run(operation))

    async def _accept(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """What may be stored of a caller's data, in a dict of its own."""
        accepted = {_text(key): _json(value, key) for key, value in data.items() if key not in _RESERVED}
        password = accepted.pop("password", None)
        if password is not None:
            accepted["password_hash"] = await asyncio.to_thread(PasswordHasher().hash, str(password))
        return accepted


def _is(session_id: str) -> Predicate:
    return Compare("session_id", Op.EQ, _text(session_id))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a session's id and field names are text, not {type(value).__name__}")
    return check_text(value)


def _json(value: Any, name: str, depth: int = MAX_NESTING) -> Any:
    """The value in JSON's own types; TypeError for what JSON cannot hold and give back."""
    if depth == 0:
        raise TypeError(f"{name}: nested more than {MAX_NESTING} levels deep, or within itself")
    match value:
        case None | bool():
            return value
        case Enum():
            return _json(value.value, name, depth)
        case str():
            return check_text(value)
        case int():
            if value.bit_length() > _MOST_BITS:
                raise TypeError(f"{name}: JSON cannot hold an integer of more than {_MOST_BITS} bits")
            return value
        case float():
            if not math.isfinite(value):
                raise TypeError(f"{name}: JSON cannot hold NaN or infinity")
            return value
        case list():
            return [_json(item, name, depth - 1) for item in value]
        case Mapping():
            return {_text(key): _json(item, name, depth - 1) for key, item in value.items()}
    raise TypeError(f"{name}: JSON cannot hold a {type(value).__name__}")
