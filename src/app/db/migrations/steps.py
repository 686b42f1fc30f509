"""What a migration does, step by step. A step is a description; how it is done is the store's business.

Each can be done again after it was interrupted, with the same end: what is there already is left as it is, and what is
gone already is no error. `inverse` is what takes it back, where something can.
"""

import copy
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ...core.errors import MigrationError
from ..backends.base import Index
from ..models.values import storable

Convert: TypeAlias = Callable[[Any], Any]
ConvertDocument: TypeAlias = Callable[[dict[str, Any]], Mapping[str, Any]]
Work: TypeAlias = Callable[[Any], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that a store can do, or that it refuses before anything of the migration is done."""

    @property
    def inverse(self) -> "Step | None":
        return None

    def __str__(self) -> str:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class CreateCollection(Step):
    collection: str

    @property
    def inverse(self) -> Step:
        return DropCollection(self.collection)

    def __str__(self) -> str:
        return f"create the collection {self.collection}"


@dataclass(frozen=True, slots=True)
class DropCollection(Step):
    """With all that is in it."""

    collection: str

    def __str__(self) -> str:
        return f"drop the collection {self.collection}"


@dataclass(frozen=True, slots=True)
class CreateIndex(Step):
    """`index.name` is never empty."""

    collection: str
    index: Index

    @property
    def inverse(self) -> Step:
        return DropIndex(self.collection, self.index.name)

    def __str__(self) -> str:
        unique = "unique " if self.index.unique else ""
        return f"create the {unique}index {self.index.name} on {self.collection} ({', '.join(self.index.fields)})"


@dataclass(frozen=True, slots=True)
class DropIndex(Step):
    collection: str
    name: str

    def __str__(self) -> str:
        return f"drop the index {self.name} of {self.collection}"


@dataclass(frozen=True, slots=True)
class CreateVectorCollection(Step):
    collection: str
    dimension: int
    distance: str

    @property
    def inverse(self) -> Step:
        return DropCollection(self.collection)

    def __str__(self) -> str:
        return f"create the vector collection {self.collection} ({self.dimension} dimensions, {self.distance})"


@dataclass(frozen=True, slots=True)
class CreatePayloadIndex(Step):
    """`kind` is what the field holds: text, integer, float, boolean, datetime or uuid."""

    collection: str
    path: str
    kind: str

    @property
    def inverse(self) -> Step:
        return DropPayloadIndex(self.collection, self.path)

    def __str__(self) -> str:
        return f"create the payload index on {self.collection}.{self.path} ({self.kind})"


@dataclass(frozen=True, slots=True)
class DropPayloadIndex(Step):
    collection: str
    path: str

    def __str__(self) -> str:
        return f"drop the payload index on {self.collection}.{self.path}"


@dataclass(frozen=True, slots=True)
class Conversion(Step):
    """A change of every document, in batches; where it was interrupted it goes on, and no document is changed twice."""

    collection: str
    batch_size: int

    def changes(self, document: Mapping[str, Any]) -> "DocumentChange":
        """What to do with one document, of which `document` has the top-level fields as Python values."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class DocumentChange:
    """New values of top-level fields, and fields to remove. An empty one leaves the document as it is."""

    values: Mapping[str, Any] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    moved: Mapping[str, str] = field(default_factory=dict)
    """Of `values`, those that are another field's, by the name of that one."""

    @property
    def fields(self) -> tuple[str, ...]:
        return (*self.values, *self.removed)

    def __bool__(self) -> bool:
        return bool(self.values or self.removed)


@dataclass(frozen=True, slots=True)
class RenameField(Conversion):
    """Documents without the old name are left alone. In one that has both, the new name gets the old one's value."""

    old: str
    new: str

    @property
    def inverse(self) -> Step:
        return RenameField(self.collection, self.batch_size, self.new, self.old)

    def changes(self, document: Mapping[str, Any]) -> DocumentChange:
        if self.old not in document:
            return DocumentChange()
        return DocumentChange({self.new: document[self.old]}, (self.old,), {self.new: self.old})

    def __str__(self) -> str:
        return f"rename {self.collection}.{self.old} to {self.new}"


@dataclass(frozen=True, slots=True)
class ConvertField(Conversion):
    """`convert` is given the field's value, and is not called for documents without the field."""

    name: str
    convert: Convert
    reverse: Convert | None = None

    @property
    def inverse(self) -> Step | None:
        if self.reverse is None:
            return None
        return ConvertField(self.collection, self.batch_size, self.name, self.reverse, self.convert)

    def changes(self, document: Mapping[str, Any]) -> DocumentChange:
        if self.name not in document:
            return DocumentChange()
        return _changed(self, document, {self.name: self.convert(copy.deepcopy(document[self.name]))})

    def __str__(self) -> str:
        return f"convert {self.collection}.{self.name}"


@dataclass(frozen=True, slots=True)
class ConvertDocuments(Conversion):
    """`convert` is given the document, and returns the fields that change. None as a value is a value."""

    convert: ConvertDocument
    reverse: ConvertDocument | None = None

    @property
    def inverse(self) -> Step | None:
        if self.reverse is None:
            return None
        return ConvertDocuments(self.collection, self.batch_size, self.reverse, self.convert)

    def changes(self, document: Mapping[str, Any]) -> DocumentChange:
        return _changed(self, document, self.convert(copy.deepcopy(dict(document))))

    def __str__(self) -> str:
        return f"convert the documents of {self.collection}"


@dataclass(frozen=True, slots=True)
class Run(Step):
    """Anything else: `work(manager)`. It is run again after an interruption, so it has to bear that."""

    label: str
    work: Work
    reverse: Work | None = None

    @property
    def inverse(self) -> Step | None:
        return None if self.reverse is None else Run(f"take back: {self.label}", self.reverse, self.work)

    def __str__(self) -> str:
        return self.label


def _changed(step: Step, document: Mapping[str, Any], given: Mapping[str, Any]) -> DocumentChange:
    """What is not as it was, to the type: True is no 1, and 1 no 1.0. MigrationError for what no store can keep."""
    values = {}
    for name, value in given.items():
        if name not in document or repr(document[name]) != repr(value):
            try:
                values[name] = storable(value)
            except ValueError as error:
                raise MigrationError(f"{step}: {name}: {error}") from None
    return DocumentChange(values)
