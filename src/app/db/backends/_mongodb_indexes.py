"""The indexes of a collection, made on first use; the server does nothing about those that are there already."""

from datetime import UTC, datetime
from typing import Any, Final

from bson import Binary
from pymongo import ASCENDING, IndexModel
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import OperationFailure

from ...core.errors import AppError, ConfigurationError, MigrationError, UnsupportedOperationError, did_you_mean
from ...core.utils.logger import get_logger
from ..models.schema import Kind
from ..query.predicates import And, Compare, Not, Op, Or, Predicate
from ._mongodb_documents import Documents, sidecar
from ._mongodb_errors import DUPLICATE, clean
from ._mongodb_query import Queries, all_of, conjuncts
from ._mongodb_values import EXPIRES
from ._names import check_identifier
from .base import CollectionSchema, Index

logger = get_logger(__name__)

_CONFLICTS: Final = frozenset({85, 86})  # IndexOptionsConflict, IndexKeySpecsConflict
_TTL_INDEX: Final = f"{EXPIRES}_ttl"

# The least value of each kind. Of a field that is not less, a query for one value is a part, as the planner has to see
# before it uses a partial index; that {$type: …} says the same it does not see.
_LEAST: Final = {
    Kind.TEXT: "",
    Kind.DATE: "",
    Kind.INTEGER: float("-inf"),
    Kind.FLOAT: float("-inf"),
    Kind.DECIMAL: float("-inf"),
    Kind.BOOLEAN: False,
    Kind.DATETIME: datetime(1, 1, 1, tzinfo=UTC),
    Kind.UUID: Binary(b""),
    Kind.BYTES: Binary(b""),
}


class Indexes:
    """What is wanted of one collection. ConfigurationError and the like come from here, before anything is sent."""

    def __init__(self, schema: CollectionSchema, documents: Documents, queries: Queries) -> None:
        self._schema = schema
        self._documents = documents
        self._queries = queries
        self.fields: dict[str, tuple[str, ...]] = {"_id_": (schema.key,)}
        """The fields of each index by its name, for the error about a duplicate."""
        self._models = [self._model(index) for index in schema.indexes]
        if schema.expires:
            self._models.append(IndexModel([(EXPIRES, ASCENDING)], name=_TTL_INDEX, expireAfterSeconds=0))

    async def ensure(self, collection: AsyncCollection[dict[str, Any]]) -> None:
        """One command, from any number of processes at once."""
        if not self._models:
            return
        failure: AppError
        try:
            await collection.create_indexes(self._models)
        except OperationFailure as error:
            if error.code not in (*_CONFLICTS, DUPLICATE):
                raise
            failure = self._failure(error)
        else:
            logger.info("ensured the indexes of %s", self._schema.name)
            return
        raise failure from failure.__cause__

    def _failure(self, error: OperationFailure) -> MigrationError:
        name = self._schema.name
        if error.code == DUPLICATE:
            ours = MigrationError(f"stored records of {name} break a unique index of its repository: migrate them")
        else:
            names = ", ".join(each.document["name"] for each in self._models)
            ours = MigrationError(
                f"an index of {name} is another than the repository's ({names}): drop it with dropIndexes, and the "
                "next use makes it anew"
            )
        ours.__cause__ = clean(error)
        return ours

    def _model(self, index: Index) -> IndexModel:
        kind = "unique" if index.unique else "index"
        name = check_identifier(index.name or f"{self._schema.name}_{'_'.join(index.fields)}_{kind}")
        self.fields[name] = index.fields
        keys = [(each, ASCENDING) for field in index.fields for each in self._keys(field, unique=index.unique)]
        conditions = [self._condition(term) for term in conjuncts(index.where)]
        if index.unique:
            # For SQL no two records without a value are the same; for MongoDB they are, where the index has them.
            conditions += [self._has_value(field) for field in index.fields if self._schema.fields[field].nullable]
        options: dict[str, Any] = {"unique": True} if index.unique else {}
        if conditions:
            options["partialFilterExpression"] = all_of(conditions)
        return IndexModel(keys, name=name, **options)

    def _keys(self, name: str, *, unique: bool) -> list[str]:
        field = self._schema.fields.get(name)
        if field is None:
            known = self._schema.fields
            raise ConfigurationError(f"{self._schema.name} has no field {name!r} to index{did_you_mean(name, known)}")
        if unique and field.kind is Kind.JSON:
            raise UnsupportedOperationError(
                f"{self._schema.name}: {name!r} is nested, and a unique index would compare its parts: MongoDB has "
                "one entry for each item of a list"
            )
        stored = self._documents.stored_name(name)
        return [stored, f"{sidecar(name)}.tail"] if field.kind is Kind.DECIMAL else [stored]

    def _has_value(self, name: str) -> dict[str, Any]:
        return {self._documents.stored_name(name): {"$gte": _LEAST[self._schema.fields[name].kind]}}

    def _condition(self, term: Predicate) -> dict[str, Any]:
        """What MongoDB allows in the condition of an index: no negation, and nothing that it computes."""
        if isinstance(term, Not) and isinstance(term.term, Compare):
            inner = term.term
            if inner.op is Op.EQ and inner.value is None and self._kind(inner.path) in _LEAST:
                return self._has_value(inner.path)
        if not self._is_plain(term):
            raise UnsupportedOperationError(
                f"{self._schema.name}: MongoDB allows in the condition of an index only comparisons of single fields, "
                "'in' and what exists, joined by & and |"
            )
        return self._queries.query(term)

    def _is_plain(self, term: Predicate) -> bool:
        if isinstance(term, And | Or):
            return all(map(self._is_plain, term.terms))
        if isinstance(term, Not) or term.op in (Op.CONTAINS, Op.STARTSWITH):
            return False
        return self._kind(term.path) not in (None, Kind.JSON, Kind.DECIMAL)

    def _kind(self, path: str) -> Kind | None:
        field = self._schema.fields.get(path)
        return None if field is None else field.kind
