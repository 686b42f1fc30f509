"""What a pydantic model tells the stores: its fields and their kinds, and the way between entity and document."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import SchemaValidator

from ...core.errors import (
    ConfigurationError,
    InvalidChangeError,
    InvalidFilterError,
    MigrationError,
    did_you_mean,
)
from ..query.predicates import Compare, Predicate, comparisons
from .base import managed
from .plain import plain_field, plain_fields
from .values import storable

if TYPE_CHECKING:
    import sqlalchemy as sa

ModelT = TypeVar("ModelT", bound=BaseModel)


class Kind(StrEnum):
    """How a field is stored. JSON stands for everything nested, and for what has no one type."""

    TEXT = "text"
    INTEGER = "integer"
    FLOAT = "float"
    BOOLEAN = "boolean"
    DATETIME = "datetime"
    DATE = "date"
    DECIMAL = "decimal"
    UUID = "uuid"
    BYTES = "bytes"
    JSON = "json"
    OTHER = "other"
    """Of a mapped class's column, in a type that only SQLAlchemy knows. Equal or not, and never more or less."""


_KINDS = {
    "str": Kind.TEXT,
    "int": Kind.INTEGER,
    "float": Kind.FLOAT,
    "bool": Kind.BOOLEAN,
    "datetime": Kind.DATETIME,
    "date": Kind.DATE,
    "decimal": Kind.DECIMAL,
    "uuid": Kind.UUID,
    "bytes": Kind.BYTES,
}


@dataclass(frozen=True, slots=True)
class FieldSchema:
    name: str
    kind: Kind
    nullable: bool
    required: bool
    default: Callable[[], Any]
    """What a record stored before the field existed has in it; meaningless where the field is required."""
    validator: SchemaValidator
    """Validates one value as the model would, by the field's own validators and without the model's."""

    has_validators: bool
    """Whether functions take part, which may not keep what they returned before."""
    plain: SchemaValidator | None = None
    """`validator`, then `storable`, in one; it may refuse what they accept."""
    one_by_one: bool = False
    """Whether an SQL store cannot take several of its values as one parameter."""

    def accept(self, value: Any) -> Any:
        """The value as it is stored; ValueError, with no value in it, for what the field or the stores refuse."""
        if self.plain is not None:
            try:
                return self.plain.validate_python(value)
            except ValidationError:
                pass  # what is wrong with it, if anything, is said below
        stored = storable(self._validated(value))
        if self.has_validators and storable(self._validated(stored)) != stored:
            raise ValueError(_NOT_IDEMPOTENT)
        return stored

    def read(self, value: Any) -> Any:
        """The value as the model has it."""
        return self.validator.validate_python(value, strict=False, by_name=True, by_alias=False)

    def _validated(self, value: Any) -> Any:
        try:
            return self.validator.validate_python(value, by_name=True, by_alias=True)
        except ValidationError as error:
            raise ValueError(reasons(error)) from None
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"its validator failed ({type(error).__name__}); one that looks at other fields has to be a model "
                "validator (mode='after'), since a change comes without them"
            ) from None


_NOT_IDEMPOTENT = "its validator changes what is stored when it is read again: let it keep what it returned before"


class ModelSchema(Generic[ModelT]):
    """One per model. Documents have the model's field names, whatever its aliases."""

    def __init__(self, model: type[ModelT], key: str) -> None:
        self.model = model
        """What describes the entities: their own class, or for mapped classes one with their mixins."""
        self.entity_class: type[Any] = model
        self.key = key
        self.table: sa.Table | None = None
        """The table of a mapped class, which is as it says and not as the fields would have it."""
        schemas, definitions, config = _core_fields(model)
        self.fields = {name: _read_field(name, model, schema, definitions, config) for name, schema in schemas.items()}
        if key not in self.fields:
            raise ConfigurationError(f"{model.__name__} has no field {key!r} to be found by; derive it from Entity")
        self.open = model.model_config.get("extra") == "allow"
        self._read: Callable[[Mapping[str, Any]], ModelT] = _lax(model)
        self._plain = plain_fields(schemas)
        self.has_rules = bool(model.__pydantic_decorators__.model_validators)
        """Whether the model has validators of the whole record, which a change of some fields has to satisfy."""
        self.kept = frozenset({key, *managed(model)})
        """The fields that no change has: the key, and what the library or the store sets."""
        self._has_validators = self.has_rules or any(field.has_validators for field in self.fields.values())

    def document(self, entity: ModelT) -> dict[str, Any]:
        """The entity as it is stored. InvalidChangeError for a value that some store cannot keep."""
        if not isinstance(entity, self.model):
            raise TypeError(f"expected a {self.model.__name__}, not {type(entity).__name__}")
        values = entity.__dict__
        if not self.open:
            try:
                return self._plain(values)
            except ValueError:
                pass  # what it is that cannot be stored, if anything, is said below
        document = {}
        try:
            for name in self.fields:
                document[name] = storable(values[name])
            if self.open:
                for name, value in (entity.__pydantic_extra__ or {}).items():
                    document[name] = storable(value)
        except KeyError:  # made by `model_construct`
            raise InvalidChangeError(f"{self.model.__name__}.{name}: has no value") from None
        except ValueError as error:
            raise InvalidChangeError(f"{self.model.__name__}.{name}: {error}") from None
        return document

    def new_document(self, entity: ModelT) -> dict[str, Any]:
        """As `document`, and sure to give the entity back: validators run again when a record is read."""
        document = self.document(entity)
        if self._has_validators:
            again = self._read_again(document)
            changed = [name for name in document if again.get(name) != document[name]]
            if changed:
                raise InvalidChangeError(f"{self.model.__name__}.{changed[0]}: {_NOT_IDEMPOTENT}")
        return document

    def replacement(self, entity: ModelT) -> dict[str, Any]:
        """As `new_document`, of a record that is there already."""
        return self.new_document(entity)

    def check(self, document: Mapping[str, Any]) -> None:
        """InvalidChangeError for a document that the model would refuse to read, or some store to keep."""
        self._read_again(document)

    def _read_again(self, document: Mapping[str, Any]) -> dict[str, Any]:
        try:
            entity = self._read(document)
        except ValidationError as error:
            raise InvalidChangeError(f"{self.model.__name__}: refused as a whole: {reasons(error)}") from None
        return self.document(entity)

    def entity(self, document: Mapping[str, Any]) -> ModelT:
        """The model again. Lax, since what is stored has plain values where a strict model has enums or sets."""
        try:
            return self._read(document)
        except ValidationError as error:
            raise self._misfit(error) from None

    def entities(self, documents: Iterable[Mapping[str, Any]]) -> list[ModelT]:
        try:
            return [*map(self._read, documents)]
        except ValidationError as error:
            raise self._misfit(error) from None

    def _misfit(self, error: ValidationError) -> MigrationError:
        names = sorted({str(each["loc"][0]) for each in error.errors(include_input=False) if each["loc"]})
        return MigrationError(
            f"a stored record does not fit {self.model.__name__} ({', '.join(names)}: {reasons(error)}): "
            "migrate the records, or let the model accept them"
        )

    def check_number(self, name: str, by: object) -> None:
        """InvalidChangeError unless the field is a number, and `by` one that can be added to it."""
        field = self._changeable(name)
        place = f"{self.model.__name__}.{name}"
        if field is None or field.kind not in (Kind.INTEGER, Kind.FLOAT):
            raise InvalidChangeError(f"{place} is not a number that can be added to")
        if isinstance(by, bool) or not isinstance(by, int if field.kind is Kind.INTEGER else int | float):
            raise InvalidChangeError(f"{place}: cannot add a {type(by).__name__} to a field of kind {field.kind}")
        try:
            storable(by)
        except ValueError as error:
            raise InvalidChangeError(f"{place}: {error}") from None

    def check_paths(self, where: Predicate) -> None:
        """InvalidFilterError for a path that begins with no field of the model."""
        if type(where) is Compare and where.path in self.fields:
            return
        for each in comparisons(where):
            name = each.path.partition(".")[0]
            if name not in self.fields and not self.open:
                raise InvalidFilterError(
                    f"{self.model.__name__} has no field {name!r}{did_you_mean(name, self.fields)}; "
                    f"there is: {', '.join(self.fields)}"
                )

    def changes(self, given: Mapping[str, Any] | BaseModel) -> dict[str, Any]:
        """Validate a partial update: a dict, or a model of which the fields that were set count.

        InvalidChangeError (a ValueError) for unknown, dotted and `$` names, for the key, and for values that the
        field's own validators refuse; the message has no value in it.
        """
        if isinstance(given, BaseModel):
            given = {name: getattr(given, name) for name in given.model_fields_set}
        if not isinstance(given, Mapping):
            raise InvalidChangeError(f"changes are a dict or a partial model, not {type(given).__name__}")
        return {name: self._change(name, value) for name, value in given.items()}

    def _change(self, name: str, value: Any) -> Any:
        field = self._changeable(name)
        try:
            return storable(value) if field is None else field.accept(value)
        except ValueError as error:
            raise InvalidChangeError(f"{self.model.__name__}.{name}: {error}") from None

    def _changeable(self, name: object) -> FieldSchema | None:
        """The field, or None for one beyond the model where the model is open."""
        if name == self.key:
            raise InvalidChangeError(f"{self.model.__name__}.{name} identifies the record and cannot change")
        if isinstance(name, str) and name in self.fields:
            return self.fields[name]
        if self.open and isinstance(name, str) and name and not name.startswith("$") and "." not in name:
            return None
        raise InvalidChangeError(f"{self.model.__name__} has no field {name!r}{did_you_mean(str(name), self.fields)}")


def reasons(error: ValidationError) -> str:
    """What is wrong, without the values and without the keys of dicts."""
    return "; ".join(
        each["msg"] for each in error.errors(include_input=False, include_url=False, include_context=False)
    )


@cache
def schema_of(model: type[Any], key: str = "id") -> ModelSchema[Any]:
    """Of a pydantic model, or of a class that SQLAlchemy maps, whose key is its primary key."""
    if is_mapped(model):
        from .mapped import MappedSchema  # noqa: PLC0415 - it loads SQLAlchemy

        return MappedSchema(model, key)
    return ModelSchema(model, key)


def is_mapped(model: object) -> bool:
    """Whether SQLAlchemy maps the class to a table."""
    return isinstance(model, type) and getattr(model, "__mapper__", None) is not None


def is_model(model: object) -> bool:
    """Whether a repository can be of this class."""
    return isinstance(model, type) and (issubclass(model, BaseModel) or is_mapped(model))


def _lax(model: type[ModelT]) -> Callable[[Mapping[str, Any]], ModelT]:
    """Validation by field names, whatever the model's aliases and strictness; its options cost a sixth of the time."""
    validate = model.__pydantic_validator__.validate_python
    if not _has_options(model.__pydantic_core_schema__):
        return validate
    return partial(validate, strict=False, by_name=True, by_alias=False)


def _has_options(schema: Any) -> bool:
    """Whether there is a strict field or an alias, anywhere in it."""
    if isinstance(schema, dict):
        found = schema.get("strict") or "validation_alias" in schema
        return bool(found) or any(_has_options(each) for each in schema.values())
    return isinstance(schema, list | tuple) and any(map(_has_options, schema))


def _core_fields(model: type[BaseModel]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Pydantic's own description: the schema of each field, the definitions they refer to, and the configuration."""
    model.model_rebuild()
    definitions: dict[str, Any] = {}
    schema: Any = model.__pydantic_core_schema__
    while schema["type"] != "model":
        if schema["type"] == "definitions":
            definitions = {each["ref"]: each for each in schema["definitions"]}
        schema = definitions[schema["schema_ref"]] if schema["type"] == "definition-ref" else schema["schema"]
    config = {**schema.get("config", {}), "hide_input_in_errors": True}
    fields = schema["schema"]
    while fields["type"] != "model-fields":
        fields = fields["schema"]
    return {name: fields["fields"][name]["schema"] for name in model.model_fields}, definitions, config


def _read_field(
    name: str, model: type[BaseModel], schema: Any, definitions: dict[str, Any], config: Any
) -> FieldSchema:
    info = model.model_fields[name]
    inner, nullable = _unwrap(schema, definitions)
    whole = {"type": "definitions", "schema": schema, "definitions": list(definitions.values())}
    return FieldSchema(
        name=name,
        kind=_kind_of(inner),
        nullable=nullable,
        required=info.is_required(),
        default=lambda: info.get_default(call_default_factory=True, validated_data={}),
        has_validators=_has_functions(schema),
        validator=SchemaValidator(whole if definitions else schema, config),
        plain=None if definitions or _has_functions(schema) else plain_field(schema, config),
    )


def _has_functions(schema: Any) -> bool:
    """Whether a function stands around the value itself, or anywhere in a nested one."""
    if isinstance(schema, dict):
        kind = schema.get("type")
        if isinstance(kind, str) and kind.startswith("function-"):
            return True
        if kind == "definition-ref":
            return True  # a nested model that refers to itself: not followed, and taken to have some
        return any(_has_functions(each) for key, each in schema.items() if key != "serialization")
    if isinstance(schema, list | tuple):
        return any(_has_functions(each) for each in schema)
    return False


def _unwrap(schema: Any, definitions: dict[str, Any]) -> tuple[Any, bool]:
    """The schema of the value itself, beneath defaults, None and validators; and whether None is allowed."""
    nullable = False
    while True:
        match schema["type"]:
            case "nullable":
                nullable = True
                schema = schema["schema"]
            case "default" | "function-after" | "function-before" | "function-wrap" | "definitions":
                schema = schema["schema"]
            case "definition-ref":
                schema = definitions[schema["schema_ref"]]
            case "json-or-python":
                schema = schema["python_schema"]
            case "lax-or-strict":
                schema = schema["strict_schema"]
            case "chain":
                schema = schema["steps"][-1]
            case _:
                return schema, nullable


def _kind_of(schema: Any) -> Kind:
    if schema["type"] in ("enum", "literal"):
        values = [each.value for each in schema["members"]] if schema["type"] == "enum" else schema["expected"]
        types = {type(each.value if isinstance(each, Enum) else each) for each in values}
        return {frozenset({str}): Kind.TEXT, frozenset({int}): Kind.INTEGER}.get(frozenset(types), Kind.JSON)
    return _KINDS.get(schema["type"], Kind.JSON)
