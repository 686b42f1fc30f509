"""What is asked of a store. Middleware reads and rewrites them; backends carry them out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias, TypeVar

from .predicates import ALL, Predicate

Document: TypeAlias = dict[str, Any]
"""Field names to Python values, as the model has them; nested models as dicts."""


class OnConflict(Enum):
    """What an insert does where the id is taken. A taken unique value raises in either case."""

    RAISE = "raise"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Order:
    field: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Insert:
    """Store all documents or none. The result is the documents that were stored.

    They were made for this operation, so middleware may write into them: a second copy of a thousand is felt.
    """

    documents: tuple[Document, ...]
    on_conflict: OnConflict = OnConflict.RAISE
    ttl: float | None = None


@dataclass(frozen=True, slots=True)
class Find:
    """The result is the matching documents, in order, ties by id."""

    where: Predicate = ALL
    order_by: tuple[Order, ...] = ()
    skip: int = 0
    limit: int | None = None
    fields: tuple[str, ...] = ()
    """The fields that are wanted; none named means all."""
    lock: bool = False
    """Whether no other transaction may change them before this one ends. Where a store finds that out at the commit,
    or has one writer at a time, nothing is locked."""


@dataclass(frozen=True, slots=True)
class Stream:
    """The result is an async generator of lists of at most `batch_size` documents; no more are held at once.

    Without `order_by` the order is the store's. What is written meanwhile may be seen or not; what was there all the
    time is seen once.
    """

    where: Predicate = ALL
    order_by: tuple[Order, ...] = ()
    batch_size: int = 500
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Explain:
    """The result is a dict that says how the store would find it: always with `store` and `index` (a name or None)."""

    find: Find


@dataclass(frozen=True, slots=True)
class Aggregate:
    """The result is the documents that the stages of a pipeline make of those that match."""

    where: Predicate
    stages: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Upsert:
    """Store each document, or change the record whose fields `on` are the same into it. All documents or none.

    `on` is the key, or the fields of one unique index. A record that is there keeps its key and its fields `keep`;
    where it does not meet `guard` it is in the way (DuplicateRecordError). The result is the documents as they are
    stored, in the order given; with `returning` off their number.
    """

    documents: tuple[Document, ...]
    on: tuple[str, ...]
    keep: tuple[str, ...] = ()
    increments: tuple[str, ...] = ()
    """Whole numbers of a record that is there, to which one is added instead."""
    guard: Predicate = ALL
    ttl: float | None = None
    returning: bool = True


@dataclass(frozen=True, slots=True)
class Update:
    """Change every document that matches, in one atomic step each. The result is the documents after the change.

    `guard` holds what must be true for the write to happen (a version, not being deleted); it is part of the same
    step. `increments` adds to numbers, `appends` adds to the end of lists. A `ttl` counts from now; without one the
    time that is left stays. With `returning` off the result is the number of documents.
    """

    where: Predicate
    changes: Mapping[str, Any] = field(default_factory=dict)
    increments: Mapping[str, int | float] = field(default_factory=dict)
    appends: Mapping[str, Any] = field(default_factory=dict)
    guard: Predicate = ALL
    ttl: float | None = None
    returning: bool = True
    check: Callable[[Document], None] | None = None
    """Raises for a document, as it is after the change, that must not be stored; then nothing is changed."""


@dataclass(frozen=True, slots=True)
class Delete:
    """The result is the number of documents. `hard` removes for good what would only be marked."""

    where: Predicate
    guard: Predicate = ALL
    hard: bool = False


@dataclass(frozen=True, slots=True)
class Count:
    """The result is the number of matching documents, at most `limit`."""

    where: Predicate = ALL
    limit: int | None = None


Operation: TypeAlias = Insert | Upsert | Find | Stream | Explain | Aggregate | Update | Delete | Count

OperationT = TypeVar("OperationT", bound=Operation)


def altered(operation: OperationT, **values: Any) -> OperationT:
    """As `dataclasses.replace`, in less than half of its time, which is most of what a middleware takes."""
    new = object.__new__(type(operation))
    names: tuple[str, ...] = type(operation).__match_args__
    for name in names:
        object.__setattr__(new, name, getattr(operation, name))
    for name, value in values.items():
        object.__setattr__(new, name, value)
    return new
