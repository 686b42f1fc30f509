"""What the audit log keeps of a write: which fields changed, without a value of those that are secret."""

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel, Secret, SecretBytes, SecretStr

from ...core.actor import current_actor
from ..backends.base import Capability, CollectionSchema, Index, StorageBackend
from ..models.base import SoftDeletable, new_object_id
from ..models.schema import schema_of
from ..models.values import utc_now
from ..query.operations import Document

MASK: Final = "***"
SECRET_NAMES: Final = frozenset({"password", "password_hash"})


class Action(StrEnum):
    CREATE = "CREATE"
    UPDATE = "UPDATE"
    DELETE = "DELETE"
    """Also one that only marks; `after` has `deleted_at` then."""
    RESTORE = "RESTORE"
    PURGE = "PURGE"
    """Removing for good what was marked before."""


class Stage(StrEnum):
    """How far a write has come. On a store with transactions all are DONE."""

    INTENT = "intent"
    DONE = "done"


class AuditRow(BaseModel):
    """An entry as it is stored."""

    id: str
    at: datetime
    actor: str | None
    action: Action
    record: str
    stage: Stage
    before: dict[str, Any]
    after: dict[str, Any]


def log_of(backend: StorageBackend) -> CollectionSchema:
    """The collection of the audit rows of a collection's records."""
    return log_beside(backend.schema.name, ordered=Capability.ORDERED_STREAM in backend.capabilities)


def log_beside(collection: str, *, ordered: bool) -> CollectionSchema:
    """As `log_of`; `ordered` where an index serves an order."""
    indexes = [Index("record"), Index("actor"), *([Index("at")] if ordered else [])]
    return CollectionSchema(f"{collection}_audit", "id", schema_of(AuditRow).fields, tuple(indexes))


class AuditRows:
    """Makes the rows of one model's records."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._secrets = secret_fields(model)
        self._is_marked = issubclass(model, SoftDeletable)

    def make(self, record: str, before: Mapping[str, Any], after: Mapping[str, Any], stage: Stage) -> Document:
        """The row of one record's change; an empty `before` is a creation, an empty `after` a removal."""
        changed = [name for name in {**before, **after} if _differ(name, before, after)]
        return {
            "id": new_object_id(),
            "at": utc_now(),
            "actor": current_actor(),
            "action": self._action(before, after).value,
            "record": record,
            "stage": stage.value,
            "before": {name: masked(name, before[name], self._secrets) for name in changed if name in before},
            "after": {name: masked(name, after[name], self._secrets) for name in changed if name in after},
        }

    def _action(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> Action:
        was_deleted, is_deleted = (self._is_marked and each.get("deleted_at") is not None for each in (before, after))
        if not before:
            return Action.CREATE
        if not after:
            return Action.PURGE if was_deleted else Action.DELETE
        if was_deleted == is_deleted:
            return Action.UPDATE
        return Action.DELETE if is_deleted else Action.RESTORE


def masked(name: str, value: Any, secrets: frozenset[str]) -> Any:
    """The value without what is secret in it; a field that is, is the same mark whatever it has, and also for None."""
    if name in secrets or name in SECRET_NAMES:
        return MASK
    if isinstance(value, dict):
        return {key: masked(key, item, frozenset()) for key, item in value.items()}
    if isinstance(value, list):
        return [masked("", item, frozenset()) for item in value]
    return value


def same(left: Any, right: Any) -> bool:
    """Whether the stores take them for one value: 1 is 1.0, and not `True`."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def secret_fields(model: type[BaseModel]) -> frozenset[str]:
    """The fields whose values belong in no log.

    Those of the types SecretStr, SecretBytes and Secret, those with `repr=False` or
    `json_schema_extra={"secret": True}`, those that are called so, and those with a nested model that has one.
    """
    return frozenset(_secret_fields(model, frozenset()))


def _secret_fields(model: type[BaseModel], within: frozenset[Any]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        extra = field.json_schema_extra
        declared = isinstance(extra, dict) and bool(extra.get("secret"))
        if name in SECRET_NAMES or not field.repr or declared or _holds_secret(field.annotation, within):
            yield name


def _holds_secret(annotation: Any, within: frozenset[Any]) -> bool:
    if annotation in (SecretStr, SecretBytes) or typing.get_origin(annotation) is Secret or annotation is Secret:
        return True
    arguments = typing.get_args(annotation)
    if arguments:
        return any(_holds_secret(each, within) for each in arguments if isinstance(each, typing.Hashable))
    alias = getattr(annotation, "__value__", None)  # `type X = …`
    if alias is not None:
        return _holds_secret(alias, within)
    if not isinstance(annotation, type) or annotation in within:
        return False
    within |= {annotation}
    if issubclass(annotation, SecretStr | SecretBytes | Secret):
        return True
    if issubclass(annotation, BaseModel):
        return any(True for _ in _secret_fields(annotation, within))
    is_typed_dict = issubclass(annotation, dict) and hasattr(annotation, "__total__")
    if dataclasses.is_dataclass(annotation) or is_typed_dict or hasattr(annotation, "_fields"):
        hints = typing.get_type_hints(annotation)
        return any(name in SECRET_NAMES or _holds_secret(each, within) for name, each in hints.items())
    return False


def _differ(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    return (name in before) != (name in after) or not same(before[name], after[name])
