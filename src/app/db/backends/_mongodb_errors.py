"""What the server refuses, as our errors. What it says quotes keys and documents, so none of that is kept."""

import re
from collections.abc import Mapping
from typing import Any, Final

from bson.errors import BSONError
from pymongo.errors import BulkWriteError, DocumentTooLarge, OperationFailure, PyMongoError

from ...core.errors import (
    AppError,
    DuplicateRecordError,
    InvalidChangeError,
    StoreUnavailableError,
    TransactionError,
    UnsupportedOperationError,
)

DUPLICATE: Final = 11000
DRIVER_ERRORS: Final = (PyMongoError, BSONError, OverflowError)
_REFUSED_VALUES: Final = frozenset({2, 14, 28, 40, 54, 121, 10334, 17280, 17419})
"""BadValue, TypeMismatch, PathNotViable, ConflictingUpdateOperators, NotSingleValueField, DocumentValidationFailure,
and a document that is too large."""
_NO_TRANSACTIONS: Final = frozenset({20, 263})  # IllegalOperation, OperationNotSupportedInTransaction
_INDEX = re.compile(r"\bindex: (?:\S+\$)?(\S+)")


def clean(error: Exception) -> Exception:
    """The driver's error without a value in it, to be the cause of ours."""
    code = getattr(error, "code", None)
    details = _first_write_error(error)
    name = details.get("codeName") or type(error).__name__
    return OperationFailure(f"{name} ({details.get('code', code)})", details.get("code", code))


def duplicate_index(details: Mapping[str, Any]) -> str | tuple[str, ...]:
    """The stored names of the fields of the index that refused a write, or the index's name where only that is told."""
    pattern = details.get("keyPattern")
    if pattern:
        return tuple(pattern)
    found = _INDEX.search(str(details.get("errmsg", "")))
    return found[1] if found else ""


def write_errors(error: Exception) -> list[Mapping[str, Any]]:
    """Each refused write of a bulk, or the only one."""
    details = getattr(error, "details", None) or {}
    return list(details.get("writeErrors") or [details]) if isinstance(error, BulkWriteError) else [details]


def is_duplicate(error: Exception) -> bool:
    return isinstance(error, OperationFailure) and _first_write_error(error).get("code", error.code) == DUPLICATE


def in_transaction(error: Exception) -> AppError | None:
    """Ours for what ends a transaction, whatever else the error may be."""
    if not isinstance(error, PyMongoError) or not error.has_error_label("TransientTransactionError"):
        return None
    return TransactionError(
        "the transaction met another one, or lost its server; nothing of it was stored: run it again"
    )


class Failures:
    """The errors of one collection."""

    def __init__(self, collection: str, fields: Mapping[str, tuple[str, ...]], names: Mapping[str, str]) -> None:
        """`fields` are those of each index by its name; `names` the model's names of stored ones."""
        self._collection = collection
        self._fields = fields
        self._names = names

    def of(self, error: Exception) -> AppError:
        """Ours, with a cause that has no value in it. To be raised where the driver's is not being handled."""
        ours = self._translated(error)
        ours.__cause__ = clean(error)
        return ours

    def duplicate_fields(self, details: Mapping[str, Any]) -> tuple[str, ...]:
        found = duplicate_index(details)
        if isinstance(found, str):
            return self._fields.get(found, ())
        return tuple(self._names.get(each, each) for each in found if not each.startswith("~"))

    def _translated(self, error: Exception) -> AppError:
        if not isinstance(error, OperationFailure):
            if isinstance(error, DocumentTooLarge):
                return InvalidChangeError(f"{self._collection}: MongoDB takes documents of at most 16 MB")
            if isinstance(error, PyMongoError):
                return StoreUnavailableError(f"{self._collection}: MongoDB failed: {type(error).__name__}")
            return InvalidChangeError(f"{self._collection}: BSON cannot hold a value: {type(error).__name__}")
        transient = in_transaction(error)
        if transient is not None:
            return transient
        details = _first_write_error(error)
        code = details.get("code", error.code)
        if code == DUPLICATE:
            return DuplicateRecordError(self._collection, self.duplicate_fields(details))
        if code in _REFUSED_VALUES:
            return InvalidChangeError(f"{self._collection}: MongoDB refused a value (code {code})")
        if code in _NO_TRANSACTIONS:
            return UnsupportedOperationError(
                f"{self._collection}: MongoDB cannot do this in a transaction (code {code})"
            )
        return StoreUnavailableError(f"{self._collection}: MongoDB refused (code {code})")


def _first_write_error(error: Exception) -> Mapping[str, Any]:
    [first, *_] = write_errors(error)
    return first
