"""The base of stored models, and the mixins that middleware acts on."""

import itertools
import os
import re
import time
from datetime import datetime
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from .values import utc_now

_OBJECT_ID = re.compile(r"[0-9a-f]{24}")
_process_random = os.urandom(5)
_counter = itertools.count(int.from_bytes(os.urandom(3), "big"))


def new_object_id() -> str:
    """Make a MongoDB ObjectId as 24 hex digits: seconds, 5 random bytes of this process, a counter. Sorts by time."""
    count = next(_counter) & 0xFFFFFF
    return (int(time.time()).to_bytes(4, "big") + _process_random + count.to_bytes(3, "big")).hex()


def is_object_id(value: object) -> bool:
    return isinstance(value, str) and _OBJECT_ID.fullmatch(value) is not None


def _check_object_id(value: str) -> str:
    value = value.lower()
    if not is_object_id(value):
        raise ValueError("an ObjectId has 24 hex digits")
    return value


PyObjectId = Annotated[str, AfterValidator(_check_object_id)]
"""An ObjectId as a string, on every store."""


def _after_fork_in_child() -> None:
    global _process_random  # noqa: PLW0603 - two processes with the same bytes and counter would make the same ids
    _process_random = os.urandom(5)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class Entity(BaseModel):
    """A stored model. Any pydantic model with an `id` will do; this one makes the id."""

    model_config = ConfigDict(validate_assignment=True)

    id: str = Field(default_factory=new_object_id)


class Timestamped(BaseModel):
    """`created_at` and `updated_at` are set on every write path, and cannot be set by the caller."""

    created_at: datetime = Field(default_factory=utc_now)
    updated_at: datetime = Field(default_factory=utc_now)


class Versioned(BaseModel):
    """`version` is 1 when a record is created, and one more after each change; it cannot be set by the caller."""

    version: int = 1


class SoftDeletable(BaseModel):
    """`delete` sets `deleted_at`; what has it set is absent from every read, and its unique values are free."""

    deleted_at: datetime | None = None


class Attributed(BaseModel):
    """`created_by` and `updated_by` are the actor (`acting_as`) of the first and the last write.

    Where nobody is named they are what the application gives with the write, and else None.
    """

    created_by: str | None = None
    updated_by: str | None = None


MIXINS: Final[tuple[type[BaseModel], ...]] = (Timestamped, Versioned, SoftDeletable, Attributed)


def managed(model: type[BaseModel]) -> frozenset[str]:
    """The fields that the library sets, by the mixins of the model."""
    return frozenset(name for mixin in MIXINS if issubclass(model, mixin) for name in mixin.model_fields)
