"""What a store remembers of the migrations that it has seen: one entry for each, kept in the store itself."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

from ..backends.base import LEDGER

__all__ = ["LEDGER", "Direction", "Entry", "State", "Status", "now"]


class State(StrEnum):
    APPLIED = "applied"
    RUNNING = "running"
    """By a process that holds the lock; with the lock free, by one that was killed."""
    FAILED = "failed"
    """A step raised, or the run was cancelled; what it had done stays."""


class Direction(StrEnum):
    UP = "up"
    DOWN = "down"
    REVERT = "revert"
    """Taking back the steps of an `up` that did not come to its end."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One migration. Times are ISO 8601 in UTC, the duration is in seconds and adds up over all runs."""

    name: str
    checksum: str
    state: State
    direction: Direction = Direction.UP
    steps: tuple[str, ...] = ()
    """What each is, in words, as it was when it began."""
    done: int = 0
    """How many of `steps` are done; of a REVERT, how many are still to be taken back."""
    cursor: Any = None
    """Of a conversion under way, the last document that is done with or in `pending`, as the store's own value."""
    pending: Any = None
    """The batch of a conversion under way: what may or may not have been written (`conversion.py`)."""
    converted: int = 0
    started_at: str = ""
    finished_at: str | None = None
    duration: float = 0.0
    error: str | None = None

    @property
    def complete(self) -> bool:
        return self.state is State.APPLIED

    @property
    def begun(self) -> int:
        """How many steps have an effect that is known of: those that are done, and a conversion under way."""
        return self.done + (self.cursor is not None or self.pending is not None)

    def altered(self, **changes: Any) -> Self:
        return replace(self, **changes)

    def to_document(self) -> dict[str, Any]:
        """Plain values, but for `cursor` and `pending`, which are the store's own."""
        document = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return document | {"state": str(self.state), "direction": str(self.direction), "steps": list(self.steps)}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Self:
        known = {name: value for name, value in document.items() if name in cls.__dataclass_fields__}
        return cls(
            **known
            | {
                "state": State(known["state"]),
                "direction": Direction(known["direction"]),
                "steps": tuple(known["steps"]),
            }
        )


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True, slots=True)
class Status:
    """One migration as `manystore migrate status` shows it."""

    connection: str
    name: str
    state: str
    """`pending`, `applied`, `running`, `interrupted`, `failed`, `edited` or `missing` (its file is gone)."""
    applied_at: str | None = None
    duration: float | None = None
    detail: str = ""
    steps: tuple[str, ...] = field(default=())
