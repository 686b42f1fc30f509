"""What a document class says of its collection: the inner `Settings`, and `Indexed` in its annotations."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from ...core.errors import ConfigurationError, did_you_mean
from ..backends.base import Index
from ..models.naming import collection_name

_KNOWN = ("name", "use_cache", "indexes")


@dataclass(frozen=True, slots=True)
class Indexed:
    """`email: Annotated[str, Indexed(unique=True)]`."""

    unique: bool = False
    name: str = ""


def collection_of(model: type[BaseModel]) -> str:
    return str(_settings(model).get("name") or collection_name(model))


def indexes_of(model: type[BaseModel]) -> tuple[Index, ...]:
    """Those of the fields, then those of the settings: `"name"`, a list of names or of `("name", 1)`, or an `Index`."""
    marked = [
        Index(name, unique=mark.unique, name=mark.name)
        for name, field in model.model_fields.items()
        for mark in field.metadata
        if isinstance(mark, Indexed)
    ]
    return (*marked, *(_index(model, each) for each in _settings(model).get("indexes", ())))


def _settings(model: type[BaseModel]) -> Mapping[str, Any]:
    given = getattr(model, "Settings", None)
    settings = {name: getattr(given, name) for name in dir(given) if not name.startswith("_")} if given else {}
    for name in settings:
        if name not in _KNOWN:
            raise ConfigurationError(
                f"{model.__name__}.Settings.{name} is not known{did_you_mean(name, _KNOWN)}; "
                f"there is: {', '.join(_KNOWN)}"
            )
    if settings.get("use_cache"):
        raise ConfigurationError(f"{model.__name__}.Settings.use_cache: documents are not cached here; set it to False")
    return settings


def _index(model: type[BaseModel], given: Any) -> Index:
    index = given if isinstance(given, Index) else Index(*_names(model, given))
    for name in index.fields:
        if name not in model.model_fields:
            raise ConfigurationError(
                f"{model.__name__}.Settings.indexes: there is no field {name!r}{did_you_mean(name, model.model_fields)}"
            )
    return index


def _names(model: type[BaseModel], given: Any) -> Iterator[str]:
    for each in [given] if isinstance(given, str) else given:
        match each:
            case str(name) | (str(name), 1 | -1):  # an index is read from either end
                yield name
            case _:
                raise ConfigurationError(
                    f"{model.__name__}.Settings.indexes: an index is 'name', a list of names or of ('name', 1), or an "
                    "Index of app.db"
                )
