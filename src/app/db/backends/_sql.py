"""From operations to SQL, for every SQL store: SQLAlchemy describes and compiles, the driver runs.

Compiling costs some 200 µs, so a statement is compiled once for each shape of an operation (its fields, operators and
kinds of values) and then only bound. What differs between stores is in `Dialect`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, cast

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import Dialect as SADialect
from sqlalchemy.sql.elements import ColumnElement

from ..models.schema import FieldSchema, Kind
from ..query.predicates import Op
from ._json import decode_json, encode_json

if TYPE_CHECKING:
    from sqlalchemy.sql.compiler import SQLCompiler

    from ..models.mapped import MappedField

Codec: TypeAlias = Callable[[Any], Any]
Condition: TypeAlias = ColumnElement[Any]

EXPIRES = "_expires_at"
EXTRA = "_extra"


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL text, and for each parameter the place of its value in the operation, with its codec."""

    sql: str
    binds: tuple[tuple[int, Codec | None], ...]
    constants: tuple[Any, ...] = ()
    """Values that belong to the shape; their places follow those of the operation, counted from the end."""

    is_plain: bool = False
    """Whether the values are the parameters, as they are and in their order, where there are no more of them."""

    def parameters(self, values: list[Any]) -> tuple[Any, ...]:
        if self.is_plain and len(values) == len(self.binds):
            return tuple(values)
        if self.constants:
            values = [*values, *self.constants]
        return tuple([values[i] if encode is None else encode(values[i]) for i, encode in self.binds])


class Dialect(ABC):
    """What one SQL store does its own way."""

    sqlalchemy: ClassVar[SADialect]
    sessions: ClassVar[SADialect]
    """SQLAlchemy's own, with which a session writes and reads."""
    types: ClassVar[Mapping[Kind, sa.types.TypeEngine[Any]]]
    table_options: ClassVar[Mapping[str, Any]] = {}
    """SQLAlchemy's, for every table."""
    locks_rows: ClassVar[bool] = False
    """Whether a SELECT in a transaction can keep others from its rows, and has to for them to stay as they are."""

    def encode_json(self, value: Any) -> Any:
        """The parameter for a nested value, of a JSON column and of the fields beyond the model."""
        return encode_json(value)

    def decode_json(self, stored: Any) -> Any:
        return decode_json(stored)

    @abstractmethod
    def codec(self, field: FieldSchema) -> tuple[Codec | None, Codec | None]:
        """How a value (never None) of the field goes in and comes out. None means: as it is."""

    def operand(self, field: FieldSchema) -> Codec | None:
        """How a value that the field is compared with goes in; by default as one that is stored."""
        return self.codec(field)[0]

    @abstractmethod
    def compare_nested(self, column: Condition, path: tuple[str, ...], op: Op, kind: str, bind: "Binder") -> Condition:
        """A comparison inside a JSON column, true only for values of the same kind (one of `value_kind`)."""

    @abstractmethod
    def is_one_of(self, column: Condition, values: sa.BindParameter[Any]) -> Condition:
        """Whether the column equals an element of one parameter, which `encode_list` made."""

    @abstractmethod
    def encode_list(self, values: Sequence[Any]) -> Any:
        """The parameter of `is_one_of`."""

    @abstractmethod
    def contains_text(self, column: Condition, part: Condition) -> Condition: ...

    @abstractmethod
    def starts_with(self, column: Condition, start: Condition) -> Condition: ...

    @abstractmethod
    def append(self, column: Condition, item: Condition) -> Condition:
        """A JSON list, None being an empty one, with one more item at its end."""

    @abstractmethod
    def merge(self, column: Condition, changes: Condition, appends: Condition) -> Condition:
        """A JSON object with top-level values replaced by those of one object, and lists longer by those of another."""

    @abstractmethod
    def literal(self, value: Any) -> str:
        """A value, as the codec of its column gives it, as SQL text: the default in a column's DDL."""

    def index_comment(self, name: str, ddl: str) -> str:  # noqa: ARG002 - for stores that need it
        """The statement that keeps an index's own one beside it; empty where the store keeps it by itself."""
        return ""

    @abstractmethod
    def by_code_point(self, text: Condition) -> Condition:
        """Text of a mapped class's column, which may have another order or none."""

    @abstractmethod
    def folds(self, column_type: sa.types.TypeEngine[Any]) -> bool:
        """Whether a mapped class's column takes different texts for the same."""

    @abstractmethod
    def listed(self, field: "MappedField") -> sa.types.TypeEngine[Any]:
        """The type that a mapped class's column is compared in with the elements of `is_one_of`."""

    @abstractmethod
    def decimal_operand(self, column_type: sa.types.TypeEngine[Any], op: Op) -> Codec | None:
        """How a number goes in that a mapped class's decimals are compared with; None for as one that is stored."""

    @abstractmethod
    def insert(self, table: sa.Table) -> Any:
        """The store's own INSERT, which has `on_conflict_do_nothing` and `on_conflict_do_update`."""

    def ordering(self, column: Condition, field: FieldSchema) -> Condition:  # noqa: ARG002 - for stores that need it
        """The expression that compares and sorts like the values of the column."""
        return column


class Binder:
    """Gives each value of an operation a parameter while the expression is built."""

    def __init__(self) -> None:
        self.binds: dict[str, tuple[int, Codec | None]] = {}
        self._next = 0

    def take(self) -> int:
        """The place of the next value, which the statement may need or not."""
        self._next += 1
        return self._next - 1

    @property
    def taken(self) -> int:
        """How many values there are."""
        return self._next

    def next(self, encode: Codec | None = None) -> sa.BindParameter[Any]:
        return self.again(self.take(), encode)

    def again(self, index: int, encode: Codec | None = None) -> sa.BindParameter[Any]:
        name = f"p{len(self.binds)}"
        self.binds[name] = (index, encode)
        return sa.bindparam(name, unique=False)


class LiteralBinder(Binder):
    """For DDL, which takes no parameters: values of the schema (never of a user) as literals."""

    def __init__(self, values: list[Any]) -> None:
        super().__init__()
        self._values = values

    def again(self, index: int, encode: Codec | None = None) -> sa.BindParameter[Any]:
        value = self._values[index]
        return sa.bindparam(None, value if encode is None else encode(value), literal_execute=True)


def compare(left: Condition, op: Op, right: Condition) -> Condition:
    match op:
        case Op.EQ:
            return left == right
        case Op.LT:
            return left < right
        case Op.LE:
            return left <= right
        case Op.GT:
            return left > right
        case Op.GE:
            return left >= right
    raise ValueError(op)


def compiled(element: sa.ClauseElement, bind: Binder, dialect: Dialect) -> Statement:
    """The statement of an expression that was built with the binder."""
    made = cast("SQLCompiler", element.compile(dialect=dialect.sqlalchemy))
    names = made.positiontup or ()
    fixed = [name for name in dict.fromkeys(names) if name not in bind.binds]
    places = {**bind.binds, **{name: (i - len(fixed), None) for i, name in enumerate(fixed)}}
    constants = tuple(made.params[name] for name in fixed)
    binds = tuple(places[name] for name in names)
    every = tuple((place, None) for place in range(bind.taken))
    return Statement(str(made), binds, constants, is_plain=binds == every)
