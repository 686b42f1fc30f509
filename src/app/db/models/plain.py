"""The common case of `storable` for a whole record, in pydantic's compiled code: one call, not one for each value.

What it lets through comes out as `storable` makes it. What it refuses may still be storable: that decides.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pydantic_core import CoreSchema, SchemaValidator, core_schema

from .values import INT64, storable, to_milliseconds


def plain_fields(fields: Mapping[str, Any]) -> Callable[[Any], dict[str, Any]]:
    """Make what turns the `__dict__` of a model into a document, from the schemas of its fields.

    ValueError where a value is not quite of its field's type, or cannot be stored.
    """
    schemas = {name: _plain(schema) or _ANY for name, schema in fields.items()}
    moments = tuple(name for name, schema in schemas.items() if _MOMENT in (schema, schema.get("schema")))
    wanted = {
        name: core_schema.typed_dict_field(core_schema.any_schema() if name in moments else schema)
        for name, schema in schemas.items()
    }
    validate = SchemaValidator(core_schema.typed_dict_schema(wanted, extra_behavior="ignore")).validate_python

    def document_of(values: Any) -> dict[str, Any]:
        document: dict[str, Any] = validate(values)
        for name in moments:  # here, since to be called from compiled code costs twice as much
            value = document[name]
            if type(value) is not datetime or value.tzinfo is not UTC or value.microsecond % 1000 or value.fold:
                document[name] = storable(value)
        return document

    return document_of if moments else validate


def plain_field(schema: Any, config: Any) -> SchemaValidator | None:
    """Make what validates one value as its field does and then keeps it; None where Python has to look at it."""
    stored = _plain(schema)
    return None if stored is None else SchemaValidator(core_schema.chain_schema([schema, stored]), config)


def _datetime(value: Any) -> datetime:
    if type(value) is not datetime:
        raise ValueError("not a datetime")
    return to_milliseconds(value)


_MOMENT = core_schema.no_info_plain_validator_function(_datetime)
_TEXT = core_schema.str_schema(strict=True, pattern=r"^[^\x00]*$")
_SCALARS: Final[Mapping[str, CoreSchema]] = {
    "str": _TEXT,
    "int": core_schema.int_schema(strict=True, ge=INT64[0], le=INT64[-1]),
    # Its strict float takes an integer, which may lose digits as one.
    "float": core_schema.chain_schema(
        [core_schema.is_instance_schema(float), core_schema.float_schema(strict=True, allow_inf_nan=False)]
    ),
    "bool": core_schema.bool_schema(strict=True),
    "datetime": _MOMENT,
}
_ANY: Final = core_schema.no_info_plain_validator_function(storable)


def _plain(schema: Any) -> CoreSchema | None:
    """The schema of values that are stored as they are; None where Python has to look at them."""
    match schema["type"]:
        case "default" | "function-after" | "function-before" | "function-wrap":
            return _plain(schema["schema"])
        case "nullable":
            inner = _plain(schema["schema"])
            return inner and core_schema.nullable_schema(inner)
        case "list":
            inner = _SCALARS.get(schema.get("items_schema", {}).get("type"))
            return inner and core_schema.list_schema(inner, strict=True)
        case kind:
            return _SCALARS.get(kind)
