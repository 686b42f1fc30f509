"""What a repository can tell of the past: the states its records had, and who wrote what."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar, cast

from ...core.errors import ConfigurationError, InvalidFilterError, RecordNotFoundError
from ..middleware._audit_outcome import Outcome, outcome_of
from ..middleware._audit_rows import Action, AuditRow, Stage, log_of
from ..middleware.history import StateRow, read_states, record_text
from ..middleware.versioning import VERSION
from ..models.base import Versioned
from ..models.values import to_milliseconds
from ..query.keyset import following
from ..query.operations import Document, Find, Order, Update
from ..query.ordering import read_size
from ..query.predicates import ALL, Compare, Op, Predicate, both, compare
from .placed import PlacedRepository

EntityT = TypeVar("EntityT")

_NEWEST_FIRST = (Order("at", descending=True), Order("id", descending=True))


@dataclass(frozen=True, slots=True)
class State(Generic[EntityT]):
    """A record as it was from `at` on, until the next version. It has `deleted_at` while it was deleted."""

    version: int
    at: datetime
    entity: EntityT


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One write of one record: the fields that changed, as they were before and after it.

    A creation has nothing before, a removal nothing after. Values are as they are stored; those of secret fields are
    `***`.
    """

    id: str
    at: datetime
    actor: str | None
    action: Action
    record: str
    """The id of the record, as text."""
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    outcome: Outcome
    """APPLIED, but for a write that a dying process left half done on a store without transactions."""


class JournaledRepository(PlacedRepository[EntityT]):
    """The readings of a repository with `keeps_history` or `audited`, in the transaction where it is in one."""

    async def history(self, id: Any) -> list[State[EntityT]]:
        """Every state that the record has had, oldest first; none for an id that no record has.

        A record that was deleted has a history, one that was removed for good has none.
        """
        return [State(row.version, row.at, self._past(row)) for row in await self._states(id)]

    async def as_of(self, id: Any, when: datetime) -> EntityT | None:
        """The record as it was at a moment, by the clocks of those who wrote; None before it was created, and while
        it was deleted.
        """
        moment = _moment("when", when)
        rows = [row for row in await self._states(id) if row.at <= moment]
        if not rows or rows[-1].document.get("deleted_at") is not None:
            return None
        return self._past(rows[-1])

    async def revert(self, id: Any, version: int) -> EntityT:
        """Write the fields of an earlier state as a new version; the record as it is then.

        Fields that the model has no more are left out, and those that it has since then stay. RecordNotFoundError for a
        version that never was, and for a record that is deleted (restore it first) or gone.
        """
        rows = [row for row in await self._states(id) if row.version == version]
        if not rows:
            raise RecordNotFoundError(f"{self.COLLECTION_NAME}: the record {id!r} never had the version {version!r}")
        kept = self.schema.kept
        past = rows[0].document
        values = {
            name: value
            for name, value in past.items()
            if name not in kept and (name in self.schema.fields or self.schema.open)
        }
        where = Compare(self.key, Op.EQ, self._key(id))
        updated = await self._run(Update(where, values, ttl=self._binding.ttl, check=self.schema.check))
        if not updated:
            raise RecordNotFoundError(f"{self.COLLECTION_NAME}: the record {id!r} is deleted: restore it first")
        return cast("EntityT", self.schema.entity(updated[0]))

    async def audit_log(
        self,
        id: Any = None,
        *,
        actor: str | None = None,
        action: Action | str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
        after: AuditEntry | None = None,
    ) -> list[AuditEntry]:
        """The newest entries first: of one record, of one actor, of one action, from `since` until before `until`.

        The last entry of a page, given as `after`, leads to the page behind it.
        """
        if not self._binding.declaration.audited:
            raise ConfigurationError(
                f"{type(self).__name__} keeps no audit log: set `audited = True` in the class, or "
                "`audited: true` in its entry under `repositories`"
            )
        if id is not None and self._key(id) is None:
            return []
        where = self._entries_of(id, actor, action, since, until)
        if after is not None:
            if not isinstance(after, AuditEntry):
                raise InvalidFilterError("after is the last entry of the page before")
            where = both(where, following([after.at, after.id], _NEWEST_FIRST))
        rows = await self._log(Find(where, _NEWEST_FIRST, limit=read_size(limit)))
        return [_entry(row, await self._outcome(row)) for row in rows]

    def _entries_of(
        self, id: Any, actor: str | None, action: str | None, since: datetime | None, until: datetime | None
    ) -> Predicate:
        where: Predicate = ALL
        if id is not None:
            where = both(where, compare("record", "=", record_text(self._key(id))))
        if actor is not None:
            where = both(where, compare("actor", "=", actor))
        if action is not None:
            where = both(where, compare("action", "=", Action(action).value))
        if since is not None:
            where = both(where, compare("at", ">=", _moment("since", since)))
        if until is not None:
            where = both(where, compare("at", "<", _moment("until", until)))
        return where

    async def _states(self, id: Any) -> list[StateRow]:
        if not self._binding.declaration.keeps_history:
            raise ConfigurationError(
                f"{type(self).__name__} keeps no history: set `keeps_history = True` in the class, or "
                "`keeps_history: true` in its entry under `repositories`"
            )
        key = self._key(id)
        return [] if key is None else await read_states(self._binding.backend, key)

    async def _log(self, find: Find) -> list[AuditRow]:
        backend = self._binding.backend
        await backend.prepare()  # which tells what the store can do, and so which indexes the log has
        rows = await backend.companion(log_of(backend)).find(find)
        return [AuditRow.model_validate(row) for row in rows]

    async def _outcome(self, row: AuditRow) -> Outcome:
        if row.stage is Stage.DONE:
            return Outcome.APPLIED
        key = self._key(row.record)
        found: list[Document] = await self._binding.backend.find(Find(Compare(self.key, Op.EQ, key), limit=1))
        others = [each for each in await self._log(Find(Compare("record", Op.EQ, row.record))) if each.id != row.id]
        version = VERSION if issubclass(self.schema.model, Versioned) else None
        return outcome_of(row, found[0] if found else None, others, version)

    def _past(self, row: StateRow) -> EntityT:
        return cast("EntityT", self.schema.entity(row.document))


def _entry(row: AuditRow, outcome: Outcome) -> AuditEntry:
    return AuditEntry(row.id, row.at, row.actor, row.action, row.record, row.before, row.after, outcome)


def _moment(name: str, given: object) -> datetime:
    """InvalidFilterError for what is no moment: nothing would be older or newer than a text."""
    if not isinstance(given, datetime):
        raise InvalidFilterError(f"{name} is a datetime, not {type(given).__name__}")
    try:
        return to_milliseconds(given)
    except ValueError as error:
        raise InvalidFilterError(f"{name}: {error}") from None
