"""What a table may have besides its own columns; each works in every session, whoever made it."""

from datetime import datetime
from typing import Any, ClassVar, Final
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy import event, inspect
from sqlalchemy.ext.hybrid import Comparator, hybrid_property
from sqlalchemy.orm import Mapped, Mapper, configure_mappers, declared_attr, has_inherited_table, mapped_column
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import False_, True_
from sqlalchemy.sql.operators import OperatorType

from ...core.actor import current_actor
from ...core.errors import InvalidChangeError
from ..models.values import utc_now
from .history_table import add_history_table
from .live_indexes import limit_to_live
from .types import GUID, UTCDateTime

# Keys first, then the model's own columns, then what the library sets.
_FIRST, _LAST = -100, 100


class UUIDMixin:
    """A random UUID as primary key, there as soon as the object is."""

    id: Mapped[UUID] = mapped_column(GUID(), primary_key=True, default=uuid4, sort_order=_FIRST)


class TimestampMixin:
    """`created_at` and `updated_at`: aware, UTC, in milliseconds, by this process's clock, and set by no caller.

    `updated_at` moves with each change that reaches the database, also by an UPDATE statement of SQLAlchemy's.
    """

    MANAGED: ClassVar[frozenset[str]] = frozenset({"created_at", "updated_at"})

    created_at: Mapped[datetime] = mapped_column(UTCDateTime(), default=utc_now, sort_order=_LAST)
    updated_at: Mapped[datetime] = mapped_column(UTCDateTime(), default=utc_now, onupdate=utc_now, sort_order=_LAST + 1)


class SoftDeleteMixin:
    """Deleting marks: `session.delete(x)` sets `deleted_at`, and the row stays.

    A query shows what it asks for, deleted rows too: `.filter(X.is_deleted.is_(False))`, or begin with `X.live()`.
    What is unique is so among the live rows. `session.delete(x, hard=True)` and DELETE statements remove for good.
    """

    MANAGED: ClassVar[frozenset[str]] = frozenset({"deleted_at"})

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        mapper = inspect(cls, raiseerr=False)
        if mapper is not None:
            limit_to_live(mapper.local_table)

    deleted_at: Mapped[datetime | None] = mapped_column(UTCDateTime(), default=None, sort_order=_LAST + 2)

    @hybrid_property
    def is_deleted(self) -> bool:
        return self.deleted_at is not None

    @is_deleted.inplace.comparator
    @classmethod
    def _is_deleted(cls) -> "_IsDeleted":
        return _IsDeleted(cls.deleted_at)

    @classmethod
    def live(cls) -> sa.Select[Any]:
        """A SELECT of those that are not deleted, to be narrowed further."""
        return sa.select(cls).where(cls.deleted_at.is_(None))

    def soft_delete(self) -> None:
        """Mark it at the next flush; what is marked stays as it is."""
        if self.deleted_at is None:
            self.deleted_at = utc_now()

    def restore(self) -> None:
        """Take the mark back. DuplicateRecordError at the flush where another row has a unique value by now."""
        self.deleted_at = None


class _IsDeleted(Comparator[bool]):
    """`deleted_at IS NOT NULL`; compared with a constant, in the form that the partial indexes have."""

    def __init__(self, mark: Any) -> None:
        self._mark = mark
        super().__init__(mark.is_not(None))

    def operate(self, op: OperatorType, *other: Any, **kwargs: Any) -> sa.ColumnElement[Any]:
        same, constant = _SAME.get(op), _constant(*other)
        if same is None or constant is None:
            general: Any = op
            result: sa.ColumnElement[Any] = general(self.__clause_element__(), *other, **kwargs)
            return result
        found: sa.ColumnElement[bool] = self._mark.is_not(None) if same is constant else self._mark.is_(None)
        return found


_SAME: Final[dict[Any, bool]] = {
    **dict.fromkeys((operators.eq, operators.is_), True),
    **dict.fromkeys((operators.ne, operators.is_not), False),
}


def _constant(*other: Any) -> bool | None:
    match other:
        case (bool(constant),):
            return constant
        case (True_() | False_() as constant,):
            return isinstance(constant, True_)
    return None


class AuditMixin:
    """`created_by` and `updated_by`: who is named by `acting_as`; where nobody is, what the application assigns."""

    MANAGED: ClassVar[frozenset[str]] = frozenset({"created_by", "updated_by"})

    created_by: Mapped[str | None] = mapped_column(sa.Text(), default=current_actor, sort_order=_LAST + 3)
    updated_by: Mapped[str | None] = mapped_column(
        sa.Text(), default=current_actor, onupdate=current_actor, sort_order=_LAST + 4
    )


class VersioningMixin:
    """`version`: 1 at first, one more with each change; who writes over another's change gets StaleRecordError.

    Every state is kept in `<table>_history`, which `Repository.history` reads, unless the class says
    `__keeps_history__ = False`.
    """

    MANAGED: ClassVar[frozenset[str]] = frozenset({"version"})
    __keeps_history__: ClassVar[bool] = True

    version: Mapped[int] = mapped_column(
        sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
        default=1,
        onupdate=sa.text("version + 1"),  # for UPDATE statements; a flush writes the number
        sort_order=_LAST + 5,
    )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        source = next(base for base in cls.__mro__ if "__mapper_args__" in vars(base))
        own = vars(cls).get("__mapper_args__")
        if isinstance(own, dict) and not has_inherited_table(cls):
            type.__setattr__(cls, "__mapper_args__", {**_VERSIONED, **own})
        elif has_inherited_table(cls) and inspect(source, raiseerr=False) is not None:
            # A mapped base has its own for itself; SQLAlchemy would take them, since a mixin has some as well.
            type.__setattr__(cls, "__mapper_args__", {})
        super().__init_subclass__(**kwargs)
        mapper = inspect(cls, raiseerr=False)
        if mapper is not None and mapper.inherits is None and cls.__keeps_history__:
            add_history_table(mapper)

    @declared_attr.directive
    @classmethod
    def __mapper_args__(cls) -> dict[str, Any]:
        return {} if has_inherited_table(cls) else _VERSIONED


_VERSIONED: Final[dict[str, Any]] = {"version_id_col": vars(VersioningMixin)["version"]}


@event.listens_for(UUIDMixin, "init", propagate=True)
def _make_id(target: UUIDMixin, args: Any, kwargs: Any) -> None:
    del args
    column = inspect(type(target)).columns.get("id")
    default: Any = None if column is None else column.default
    if "id" not in kwargs and default is not None and default.is_callable:
        configure_mappers()  # where this is the first object, its attributes are not made yet
        target.id = default.arg(None)


@event.listens_for(TimestampMixin, "before_insert", propagate=True)
def _begin_time(mapper: Mapper[Any], connection: sa.Connection, target: TimestampMixin) -> None:
    del mapper, connection
    target.created_at = target.updated_at = utc_now()


@event.listens_for(TimestampMixin, "before_update", propagate=True)
def _refuse_other_time(mapper: Mapper[Any], connection: sa.Connection, target: TimestampMixin) -> None:
    del mapper, connection
    _refuse_changed(target, "created_at", "updated_at")


@event.listens_for(AuditMixin, "before_insert", propagate=True)
def _name_creator(mapper: Mapper[Any], connection: sa.Connection, target: AuditMixin) -> None:
    del mapper, connection
    actor = current_actor()
    if actor is not None:
        target.created_by = target.updated_by = actor
    elif target.updated_by is None:
        target.updated_by = target.created_by


@event.listens_for(AuditMixin, "before_update", propagate=True)
def _name_editor(mapper: Mapper[Any], connection: sa.Connection, target: AuditMixin) -> None:
    del mapper, connection
    _refuse_changed(target, "created_by")
    actor = current_actor()
    if actor is not None and inspect(target).attrs.updated_by.history.has_changes():
        target.updated_by = actor


@event.listens_for(VersioningMixin, "before_update", propagate=True)
def _refuse_other_version(mapper: Mapper[Any], connection: sa.Connection, target: VersioningMixin) -> None:
    del connection
    if mapper.version_id_generator is not False:  # else the application counts
        _refuse_changed(target, "version")


def _refuse_changed(target: Any, *names: str) -> None:
    attributes = inspect(target).attrs
    forged = [name for name in names if attributes[name].history.has_changes()]
    if forged:
        raise InvalidChangeError(f"{type(target).__name__}: {', '.join(forged)}: set by the library, not by a caller")
