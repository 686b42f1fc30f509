"""Every error the library raises. Each is also the built-in error an application would catch anyway."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class AppError(Exception):
    """The base of every error that this library raises on purpose."""

    def __reduce__(self) -> Any:
        """Come back from another process whole, whatever the class is made with: an error that does not ends a pool."""
        return _made_again, (type(self), self.args, self.__dict__)


def _made_again(kind: type[BaseException], arguments: tuple[Any, ...], attributes: dict[str, Any]) -> BaseException:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(attributes)
    return error


class ConfigurationError(AppError, ValueError):
    """The settings, or the way the library is called, cannot work; the message names the place and the way out."""


class NotRegisteredError(AppError, LookupError, ValueError):
    """Nothing is registered under the name; the message lists what there is."""

    @classmethod
    def for_name(cls, kind: str, name: str, known: Iterable[str]) -> "NotRegisteredError":
        names = sorted(known)
        listed = ", ".join(names) or "none"
        return cls(f"no {kind} named {name!r}{did_you_mean(name, names)}; there is: {listed}")


class MissingDependencyError(AppError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""

    __reduce__ = ImportError.__reduce__  # which has a state of its own

    @classmethod
    def for_extra(cls, package: str, extra: str) -> "MissingDependencyError":
        return cls(f"the package {package!r} is not installed: pip install 'manystore[{extra}]'")


class StoreUnavailableError(AppError, ConnectionError):
    """The store cannot be reached or opened. Nothing was written."""


class PoolExhaustedError(AppError):
    """No connection became free in time. Nothing was sent."""


class DeadlineExceededError(AppError, TimeoutError):
    """The operation did not finish in time and was not applied."""


class OutcomeUnknownError(AppError):
    """The connection was lost after a write was sent: it may or may not have been applied."""


class RecordNotFoundError(AppError, LookupError):
    """No record has the id."""


class MultipleRecordsError(AppError, LookupError):
    """More than one record matches where one was asked for."""


class DuplicateRecordError(AppError):
    """A unique index refused the write. `fields` names the fields of that index."""

    def __init__(self, collection: str, fields: Iterable[str]) -> None:
        self.collection = collection
        self.fields = tuple(fields)
        names = ", ".join(self.fields) or "a unique value"
        super().__init__(f"{collection}: another record has the same {names}")

    @property
    def field(self) -> str:
        """The first field of the index that refused the write, or an empty string where the store names none."""
        return self.fields[0] if self.fields else ""


class StaleRecordError(AppError):
    """The record changed since it was read: `expected` and `actual` are its versions then and now."""

    def __init__(self, collection: str, id: object, expected: int, actual: int) -> None:
        self.expected = expected
        self.actual = actual
        super().__init__(
            f"{collection}: the record {id!r} has version {actual} and not {expected}: "
            "read it again, and repeat the change"
        )


class InvalidFilterError(AppError, ValueError):
    """A filter names an unknown field or operator, or compares with a value that cannot be compared."""


class InvalidChangeError(AppError, ValueError):
    """A change names an unknown field, or carries a value that the model or the stores refuse."""


class UnsupportedOperationError(AppError):
    """The store cannot do this, and the library does not approximate it."""


class TransactionError(AppError):
    """A transaction was used outside its life, or where the store has none."""


class MigrationError(AppError):
    """The model and what is stored differ in a way that only a migration can settle."""


class DimensionMismatchError(AppError, ValueError):
    """A vector has another length than its collection."""


class EmbeddingMismatchError(AppError, ValueError):
    """A collection was made with another embedding model or distance, its texts cut otherwise, or it is moving."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the nearest known name, or nothing when none is near."""
    near = get_close_matches(name, [str(each) for each in known], n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""
