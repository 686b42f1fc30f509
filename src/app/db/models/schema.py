"""What a pydantic model tells the stores: its fields and their kinds, and the way between entity and document."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from functools import cache
from typing import Any, Generic, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import SchemaValidator

from ...core.errors import ConfigurationError, InvalidChangeError, InvalidFilterError, did_you_mean
from ..query.predicates import Predicate, comparisons
from .values import storable

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
    enum: type[Enum] | None
    validator: SchemaValidator
    """Validates one value as the model would, by the field's own validators and without the model's."""


class ModelSchema(Generic[ModelT]):
    """One per model. Documents have the model's field names, whatever its aliases."""

    def __init__(self, model: type[ModelT], key: str) -> None:
        self.model = model
        self.key = key
        self.fields = _read_fields(model)
        if key not in self.fields:
            raise ConfigurationError(f"{model.__name__} has no field {key!r} to be found by; derive it from Entity")
        self.open = model.model_config.get("extra") == "allow"
        self._validate = model.__pydantic_validator__.validate_python

    def document(self, entity: ModelT) -> dict[str, Any]:
        """The entity as it is stored. InvalidChangeError for a value that some store cannot keep."""
        values = {**entity.__dict__, **entity.__pydantic_extra__} if entity.__pydantic_extra__ else entity.__dict__
        document = {}
        for name, value in values.items():
            if name in self.fields or self.open:
                try:
                    document[name] = storable(value)
                except ValueError as error:
                    raise InvalidChangeError(f"{self.model.__name__}.{name}: {error}") from None
        return document

    def entity(self, document: Mapping[str, Any]) -> ModelT:
        return cast("ModelT", self._validate(document, by_name=True, by_alias=False))

    def check_paths(self, where: Predicate) -> None:
        """InvalidFilterError for a path that begins with no field of the model."""
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
        return {name: self._change(name, value) for name, value in given.items()}

    def _change(self, name: str, value: Any) -> Any:
        place = f"{self.model.__name__}.{name}"
        if name == self.key:
            raise InvalidChangeError(f"{place} identifies the record and cannot change")
        field = self.fields.get(name)
        if field is None and not self.open:
            raise InvalidChangeError(
                f"{self.model.__name__} has no field {name!r}{did_you_mean(str(name), self.fields)}"
            )
        try:
            if field is not None:
                value = field.validator.validate_python(value, by_name=True, by_alias=False)
            return storable(value)
        except ValidationError as error:
            reasons = "; ".join(each["msg"] for each in error.errors(include_input=False, include_url=False))
            raise InvalidChangeError(f"{place}: {reasons}") from None
        except ValueError as error:
            raise InvalidChangeError(f"{place}: {error}") from None


@cache
def schema_of(model: type[ModelT], key: str = "id") -> ModelSchema[ModelT]:
    return ModelSchema(model, key)


def _read_fields(model: type[BaseModel]) -> dict[str, FieldSchema]:
    model.model_rebuild()
    definitions: dict[str, Any] = {}
    schema: Any = model.__pydantic_core_schema__
    while schema["type"] != "model":
        if schema["type"] == "definitions":
            definitions = {each["ref"]: each for each in schema["definitions"]}
        schema = definitions[schema["schema_ref"]] if schema["type"] == "definition-ref" else schema["schema"]
    config = {**schema.get("config", {}), "val_json_bytes": "base64", "hide_input_in_errors": True}
    fields = schema["schema"]
    while fields["type"] != "model-fields":
        fields = fields["schema"]
    return {
        name: _read_field(name, model, fields["fields"][name]["schema"], definitions, config)
        for name in model.model_fields
    }


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
        enum=inner["cls"] if inner["type"] == "enum" and _kind_of(inner) is not Kind.JSON else None,
        validator=SchemaValidator(whole if definitions else schema, config),
    )


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
