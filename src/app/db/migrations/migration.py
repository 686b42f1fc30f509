"""What an application writes: a class with `up` and `down`, each of which says the steps in order."""

import inspect
from collections.abc import Callable
from typing import ClassVar

from ...core.constants import Distance
from ...core.errors import ConfigurationError, MigrationError
from ..backends.base import Index
from ..query.predicates import Filter, to_predicate
from .schemas import default_name
from .steps import (
    Convert,
    ConvertDocument,
    ConvertDocuments,
    ConvertField,
    CreateCollection,
    CreateIndex,
    CreatePayloadIndex,
    CreateVectorCollection,
    DropCollection,
    DropIndex,
    DropPayloadIndex,
    RenameField,
    Run,
    Step,
    Work,
)

BATCH = 500


class Migration:
    """One change of a document, key-value or vector store.

    `up` and `down` call the methods below; nothing happens then, they only write down what is to be done, so there is
    nothing to await. Without a `down` the steps of `up` are taken back in reverse, where each can be.
    """

    connection: ClassVar[str | None] = None
    """The connection it is for; needed only in a file that is in no directory with the name of one."""

    def __init__(self) -> None:
        self._steps: list[Step] = []

    def up(self) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no up(self)")

    def down(self) -> None:
        """Leave it out where the steps of `up` say it."""
        self._steps = [_inverse(self, step) for step in reversed(self.steps_up())]

    def steps_up(self) -> list[Step]:
        return self._recorded(self.up)

    def steps_down(self) -> list[Step]:
        """MigrationError where a step cannot be taken back and there is no `down`."""
        return self._recorded(self.down)

    def create_collection(self, name: str) -> None:
        self._steps.append(CreateCollection(name))

    def drop_collection(self, name: str) -> None:
        self._steps.append(DropCollection(name))

    def create_index(
        self, collection: str, *fields: str, unique: bool = False, name: str = "", where: Filter = None
    ) -> None:
        """Index one or more fields, named `{fields}_unique` or `{fields}_index` unless told otherwise.

        Where a repository of the collection declares that index, it is made as the repository has it.
        """
        if not fields:
            raise ConfigurationError(f"{type(self).__name__}: an index on {collection} needs a field")
        index = Index(*fields, unique=unique, name=name, where=to_predicate(where))
        named = index if name else Index(*fields, unique=unique, name=default_name(index), where=index.where)
        self._steps.append(CreateIndex(collection, named))

    def drop_index(self, collection: str, name: str) -> None:
        self._steps.append(DropIndex(collection, name))

    def rename_field(self, collection: str, old: str, new: str, *, batch_size: int = BATCH) -> None:
        self._steps.append(RenameField(collection, batch_size, old, new))

    def convert_field(
        self,
        collection: str,
        field: str,
        convert: Convert,
        *,
        reverse: Convert | None = None,
        batch_size: int = BATCH,
    ) -> None:
        """Replace a field's value in every document that has it by `convert(value)`, a plain function.

        It is given, and returns, what Python has: aware datetimes, Decimals, UUIDs, the same on every store.
        It goes on where it was interrupted and converts no document twice. What writes meanwhile has to write what
        `convert` leaves as it is, or is converted when the batch comes to it.
        """
        self._steps.append(ConvertField(collection, batch_size, field, convert, reverse))

    def convert_documents(
        self,
        collection: str,
        convert: ConvertDocument,
        *,
        reverse: ConvertDocument | None = None,
        batch_size: int = BATCH,
    ) -> None:
        """As `convert_field`, with the whole document given and the fields that change returned."""
        self._steps.append(ConvertDocuments(collection, batch_size, convert, reverse))

    def create_vector_collection(self, name: str, dimension: int, distance: Distance | str = Distance.COSINE) -> None:
        self._steps.append(CreateVectorCollection(name, dimension, str(Distance(distance))))

    def create_payload_index(self, collection: str, field: str, kind: str = "text") -> None:
        self._steps.append(CreatePayloadIndex(collection, field, kind))

    def drop_payload_index(self, collection: str, field: str) -> None:
        self._steps.append(DropPayloadIndex(collection, field))

    def run(self, label: str, work: Work, *, reverse: Work | None = None) -> None:
        """Anything else: `await work(manager)` with the connection's manager; it may be run again after a kill."""
        self._steps.append(Run(label, work, reverse))

    def _recorded(self, method: Callable[[], object]) -> list[Step]:
        before, self._steps = self._steps, []
        try:
            given: object = method()
            if inspect.iscoroutine(given):
                given.close()  # it would say no steps, and be applied
                raise MigrationError(
                    f"{type(self).__name__}.{method.__name__} is an `async def`: it only says the steps, so "
                    "leave `async` and `await` out"
                )
            return self._steps
        finally:
            self._steps = before


def _inverse(migration: Migration, step: Step) -> Step:
    inverse = step.inverse
    if inverse is None:
        raise MigrationError(f"{type(migration).__name__}: nothing takes back {str(step)!r}: give it a down(self)")
    return inverse
