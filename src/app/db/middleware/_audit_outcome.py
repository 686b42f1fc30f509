"""What became of a write that was announced in the audit log and never completed there.

On a store without transactions a process may die between the two. Then the record says what happened, as far as it can.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

from ..query.operations import Document
from ._audit_rows import MASK, Action, AuditRow, Stage, same


class Outcome(StrEnum):
    APPLIED = "applied"
    NOT_APPLIED = "not applied"
    UNKNOWN = "unknown"


def outcome_of(row: AuditRow, current: Document | None, others: Sequence[AuditRow], version: str | None) -> Outcome:
    """`current` is the record as it is stored, `others` the other rows of it, `version` the name of its version."""
    if row.stage is Stage.DONE:
        return Outcome.APPLIED
    done = [each for each in others if each.stage is Stage.DONE]
    if not row.before:
        return _of_creation(row, current, done, version)
    if not row.after:
        return _of_removal(current, done)
    if current is None:
        return Outcome.UNKNOWN
    if version is not None and version in row.after:
        return _by_version(row, current, others, version)
    return _by_values(row, current)


def _of_creation(row: AuditRow, current: Document | None, done: Iterable[AuditRow], version: str | None) -> Outcome:
    if any(each.action is Action.CREATE for each in done):
        return Outcome.NOT_APPLIED if current is not None else Outcome.UNKNOWN
    if current is None:
        removed = any(each.before and not each.after for each in done)
        return Outcome.UNKNOWN if removed else Outcome.NOT_APPLIED
    if version is not None and current[version] > 1:
        return Outcome.APPLIED
    return Outcome.APPLIED if _has(current, row.after) else Outcome.UNKNOWN


def _of_removal(current: Document | None, done: Iterable[AuditRow]) -> Outcome:
    if current is None:
        by_others = any(each.before and not each.after for each in done)
        return Outcome.UNKNOWN if by_others else Outcome.APPLIED
    again = any(each.action is Action.CREATE for each in done)
    return Outcome.UNKNOWN if again else Outcome.NOT_APPLIED


def _by_version(row: AuditRow, current: Document, others: Iterable[AuditRow], version: str) -> Outcome:
    """A version is made by one write, so it was this one unless another row has it."""
    planned = row.after[version]
    if current[version] < planned:
        return Outcome.NOT_APPLIED
    rivals = [each for each in others if each.after.get(version) == planned]
    if any(each.stage is Stage.DONE for each in rivals):
        return Outcome.NOT_APPLIED
    if not rivals:
        return Outcome.APPLIED
    return _by_values(row, current) if current[version] == planned else Outcome.UNKNOWN


def _by_values(row: AuditRow, current: Document) -> Outcome:
    before = {name: value for name, value in row.before.items() if value != MASK}
    after = {name: value for name, value in row.after.items() if value != MASK}
    if not after:
        return Outcome.UNKNOWN
    if _has(current, after):
        return Outcome.APPLIED
    return Outcome.NOT_APPLIED if _has(current, before) else Outcome.UNKNOWN


def _has(current: Document, values: dict[str, Any]) -> bool:
    return all(value == MASK or same(current.get(name), value) for name, value in values.items())
