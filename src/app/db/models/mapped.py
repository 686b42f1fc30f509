"""Classes that SQLAlchemy maps as entities: their columns say what is valid, and records are detached instances."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from sqlalchemy import orm

from ...core.errors import ConfigurationError, InvalidChangeError
from .base import MIXINS, Versioned, managed
from .mapped_types import Convert, form_of, same
from .schema import FieldSchema, ModelSchema, reasons

MANAGED: Final = "MANAGED"
"""The attribute in which a mixin of mapped classes has the names of what the library sets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedField(FieldSchema):
    """A column of a mapped class, under the name of its attribute."""

    column: sa.Column[Any]
    to_document: Convert
    """From what SQLAlchemy has to what documents have; `to_python` is the way back. None is None in both."""
    to_python: Convert
    check: Convert
    members: Mapping[Any, str] | None
    generated: bool
    """Whether the store makes a value where none is given."""
    computed: bool
    """Whether it always does."""

    def accept(self, value: Any) -> Any:
        if value is None:
            if not self.nullable:
                raise ValueError("may not be None")
            return None
        try:
            valid = self.validator.validate_python(value)
        except ValidationError as error:
            raise ValueError(reasons(error)) from None
        return self.check(self.to_document(valid))

    def read(self, value: Any) -> Any:
        return None if value is None else self.to_python(value)

    def new_value(self, value: Any, document: Mapping[str, Any]) -> Any:
        """What a session would write into a new row: for None, as for what was never set, the column's default."""
        return made_by(self.column.default, document) if value is None else value


def made_by(default: Any, document: Mapping[str, Any]) -> Any:
    """The value of a default of Python's; None where there is none, and where the store makes it."""
    if default is None or not (default.is_scalar or default.is_callable):
        return None
    return default.arg(_Context(document)) if default.is_callable else default.arg


class _Context:
    """Of SQLAlchemy's execution context what a default may ask for."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.current_parameters = dict(document)

    def get_current_parameters(self, isolate_multiinsert_groups: bool = True) -> dict[str, Any]:
        del isolate_multiinsert_groups
        return self.current_parameters


class MappedSchema(ModelSchema[Any]):
    """Entities go in as any instances whose columns are loaded, and come out detached: nothing is loaded later."""

    def __init__(self, model: type[Any], key: str) -> None:
        mapper: orm.Mapper[Any] = model.__mapper__
        self._mapper = mapper
        self.table = _table_of(mapper)
        columns = _columns_of(mapper, self.table)
        [primary] = [name for name, column in columns.items() if column.primary_key]
        if key not in (primary, "id"):
            raise ConfigurationError(f"{model.__name__}: its key is its primary key {primary!r}, and not {key!r}")
        self.key = primary
        self.columns = {name: _field(model, name, column) for name, column in columns.items()}
        self.fields = dict(self.columns)
        self.model = _described(model, mapper, self.columns)
        self.entity_class = model
        self.open = False
        self.has_rules = False
        self._managed = managed(self.model)
        computed = [name for name, field in self.columns.items() if field.computed]
        self.kept = frozenset({self.key, *self._managed, *computed})
        self._readers = [(name, _or_none(field.to_python)) for name, field in self.columns.items()]

    def document(self, entity: Any) -> dict[str, Any]:
        """The entity as it is, in the terms of documents; what is not set is None."""
        values = self._loaded(entity)
        document = {}
        for name, field in self.columns.items():
            value = values.get(name)
            try:
                document[name] = None if value is None else field.to_document(value)
            except (ValueError, TypeError, AttributeError):
                raise InvalidChangeError(
                    f"{self.model.__name__}.{name}: a {type(value).__name__} is not of its type"
                ) from None
        return document

    def new_document(self, entity: Any) -> dict[str, Any]:
        """As a session would write it: with the defaults of the columns, and without what the store makes."""
        values = self._loaded(entity)
        document: dict[str, Any] = {}
        for name, field in self.columns.items():
            if field.computed:
                continue
            value = values.get(name)
            if name not in self._managed:
                value = field.new_value(value, document)
            if value is not None or not (field.generated or name in self._managed):
                document[name] = self._accepted(name, value)
        return document

    def replacement(self, entity: Any) -> dict[str, Any]:
        document = self.document(entity)
        return document | {name: self._accepted(name, document[name]) for name in document if name not in self.kept}

    def check(self, document: Mapping[str, Any]) -> None:
        for name, value in document.items():
            if name not in self.kept:
                self._accepted(name, value)

    def entity(self, document: Mapping[str, Any]) -> Any:
        return self.entities((document,))[0]

    def entities(self, documents: Iterable[Mapping[str, Any]]) -> list[Any]:
        """They are made as the ORM makes them from rows, without `__init__`."""
        if not self._mapper.configured:
            orm.configure_mappers()
        return [*map(self._detached, documents)]

    def _detached(self, document: Mapping[str, Any]) -> Any:
        manager = self._mapper.class_manager
        instance = manager.new_instance()
        values = instance.__dict__
        for name, read in self._readers:
            value = document.get(name)
            values[name] = value if value is None or read is None else read(value)
        orm.make_transient_to_detached(instance)
        # What follows changes inside a value, and `@reconstructor`, wait for this.
        manager.dispatch.load(sa.inspect(instance), None)
        return instance

    def _loaded(self, entity: Any) -> Mapping[str, Any]:
        """What the instance holds. What it does not would be loaded by its session, here, without anybody waiting."""
        if not isinstance(entity, self.entity_class):
            raise TypeError(f"expected a {self.entity_class.__name__}, not {type(entity).__name__}")
        state = sa.inspect(entity)
        values: Mapping[str, Any] = state.dict
        if state.key is not None:
            missing = [name for name in self.columns if name not in values]
            if missing:
                raise InvalidChangeError(
                    f"{self.model.__name__}: {', '.join(missing)} of this instance is not loaded: refresh it first"
                )
        return values

    def _accepted(self, name: str, value: Any) -> Any:
        try:
            return self.columns[name].accept(value)
        except (ValueError, TypeError) as error:
            raise InvalidChangeError(f"{self.model.__name__}.{name}: {error}") from None

    def _changeable(self, name: object) -> FieldSchema | None:
        field = super()._changeable(name)
        if isinstance(field, MappedField) and field.computed:
            raise InvalidChangeError(f"{self.model.__name__}.{name} is computed by the store")
        return field


def _or_none(convert: Convert) -> Convert | None:
    return None if convert is same else convert


def _table_of(mapper: orm.Mapper[Any]) -> sa.Table:
    """ConfigurationError for a class whose records are not the rows of one table."""
    name, table = mapper.class_.__name__, mapper.local_table
    if not isinstance(table, sa.Table):
        reason = "it is mapped to a query and not to a table"
    elif mapper.inherits is not None or mapper.polymorphic_on is not None:
        reason = "it shares its table with other classes (inheritance)"
    elif table.schema is not None:
        reason = f"its table is in the schema {table.schema!r}: name that in the connection's search path instead"
    elif len(table.primary_key.columns) != 1:
        reason = "its primary key has several columns"
    else:
        return table
    raise ConfigurationError(f"{name} cannot be the entity of a repository: {reason}; use it in sessions")


def _columns_of(mapper: orm.Mapper[Any], table: sa.Table) -> dict[str, sa.Column[Any]]:
    """By attribute. `mapper.columns` is there before classes that it is related to are."""
    found: dict[str, Any] = dict(mapper.columns.items())  # expressions too
    return {name: each for name, each in found.items() if isinstance(each, sa.Column) and each.table is table}


def _field(model: type[Any], name: str, column: sa.Column[Any]) -> MappedField:
    try:
        form = form_of(column.type)
    except ValueError as error:
        raise ConfigurationError(f"{model.__name__}.{name} cannot be a field of a repository: {error}") from None
    default = column.default
    made_by_sql = default is not None and not (default.is_scalar or default.is_callable)
    return MappedField(
        name=name,
        kind=form.kind,
        nullable=bool(column.nullable),
        required=not column.nullable,
        default=lambda: None,
        validator=TypeAdapter(form.annotation, config=_CONFIG).validator,  # type: ignore[arg-type]  # as fast as its own
        has_validators=False,
        one_by_one=form.one_by_one,
        column=column,
        to_document=form.to_document,
        to_python=form.to_python,
        check=form.check,
        members=form.members,
        generated=made_by_sql or column.server_default is not None or column is column.table.autoincrement_column,
        computed=column.computed is not None,
    )


_CONFIG: Final = ConfigDict(arbitrary_types_allowed=True)


def _described(model: type[Any], mapper: orm.Mapper[Any], fields: Mapping[str, MappedField]) -> type[BaseModel]:
    """A pydantic model with the mixins of the class, and with those of its fields that are secret."""
    names = {name for each in model.__mro__ for name in vars(each).get(MANAGED, ())}
    named = {mixin for mixin in MIXINS if names.issuperset(mixin.model_fields)}
    if mapper.version_id_col is not None:
        if (
            mapper.version_id_col is not getattr(fields.get("version"), "column", None)
            or mapper.version_id_generator is False
        ):
            raise ConfigurationError(
                f"{model.__name__} cannot be the entity of a repository: its version_id_col is counted by SQLAlchemy, "
                "in an attribute named `version`"
            )
        named.add(Versioned)
    secret: dict[str, Any] = {
        name: (Any, Field(None, repr=False)) for name, field in fields.items() if field.column.info.get("secret")
    }
    bases = tuple(mixin for mixin in MIXINS if mixin in named)
    return create_model(model.__name__, __base__=bases or BaseModel, **secret)
