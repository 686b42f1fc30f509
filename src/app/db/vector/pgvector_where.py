"""Filters on metadata as SQL, in the terms that the records have for nested values; compiled once for each shape."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from ..backends._postgres_dialect import PostgresDialect
from ..backends._shapes import LARGE, TEXTS, shape, value_kind
from ..backends._sql import Binder, Condition, Statement, compiled
from ..query.predicates import And, Compare, Not, Or, Predicate

if TYPE_CHECKING:
    from collections.abc import Hashable


class _Dialect(PostgresDialect):
    has_decimals = False  # metadata is JSON, and the tags of records are escaped in it


_DIALECT: Final = _Dialect()
_METADATA: Final = sa.literal_column("metadata", postgresql.JSONB())
_OF_JSON: Final = frozenset({"null", "text", "number", "boolean", LARGE, TEXTS, "list"})
"""The kinds of value that metadata can equal: JSON has no moments, and no bytes."""
_MOST: Final = 500


class Wheres:
    """Statements with a filter in them."""

    def __init__(self) -> None:
        self._made: dict[Hashable, Statement] = {}

    def statement(self, template: str, predicate: Predicate, *rest: Any) -> tuple[str, tuple[Any, ...]]:
        """Text and parameters of a statement. The template has `{where}` for the filter, `{0}`, … for `rest`."""
        values: list[Any] = []
        key = (template, shape(predicate, values))
        found = self._made.get(key)
        if found is None:
            if len(self._made) >= _MOST:
                self._made.clear()
            found = self._made[key] = _compile(template, predicate, len(rest))
        return found.sql, (*found.parameters(values), *rest)


def _compile(template: str, predicate: Predicate, rest: int) -> Statement:
    bind = Binder()
    where = compiled(_condition(predicate, bind), bind, _DIALECT)
    places = [f"${len(where.binds) + number}" for number in range(1, rest + 1)]
    return replace(where, sql=template.format(*places, where=f"({where.sql})"))  # it may be an OR


def _condition(predicate: Predicate, bind: Binder) -> Condition:
    """Its parts may be NULL where they mean false, and Not takes care of that."""
    match predicate:
        case Compare(path, op, value):
            kind = value_kind(op, value)
            if kind in _OF_JSON:
                return _DIALECT.compare_nested(_METADATA, tuple(path.split(".")), op, kind, bind)
            bind.take()
            return sa.false()
        case Not(term):
            return _condition(term, bind).is_not(sa.true())
        case And(terms):
            return sa.and_(sa.true(), *[_condition(term, bind) for term in terms])
        case Or(terms):
            return sa.or_(sa.false(), *[_condition(term, bind) for term in terms])


def expression_at(path: str) -> str:
    """What stands at a path of the metadata, as the statements have it, for an index on it. The path is checked."""
    value = _DIALECT.nested(_METADATA, tuple(path.split(".")))
    return str(value.compile(dialect=_DIALECT.sqlalchemy, compile_kwargs={"literal_binds": True}))
