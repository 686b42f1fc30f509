"""A change of one point that a Qdrant server makes only while the point is as it was read."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from qdrant_client import models

from ....core.errors import InvalidChangeError
from ...vector.qdrant_server_rows import stored_row, term_payload
from ..store import Replacement
from ._qdrant_payload import changed, changed_row

_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]+")


def set_fields(replacement: Replacement, payload: Mapping[str, Any]) -> Iterator[models.UpdateOperation]:
    """What is to be sent, in this order."""
    same = models.HasIdCondition(has_id=[replacement.id])
    found = stored_row(payload)
    if found is not None:
        text = models.FieldCondition(key="metadata", match=models.MatchValue(value=payload["metadata"]))
        row = changed_row(found, replacement)
        changes = {"doc": row.document_id, "metadata": row.metadata, **term_payload(row)}
        yield _set(changes, models.Filter(must=[same, text]))
        return
    if None in replacement.values.values():  # to set a field to null is to remove it
        unchanged = [_is(name, payload) for name in dict.fromkeys((*payload, *replacement.values))]
        condition = models.Filter(must=[same, *unchanged])
        whole = models.SetPayload(payload=changed(payload, replacement), filter=condition)
        yield models.OverwritePayloadOperation(overwrite_payload=whole)
        return
    fields = dict.fromkeys((*replacement.values, *replacement.removed))
    conditions = [_is(name, replacement.expected) for name in fields]
    if replacement.values:
        yield _set(dict(replacement.values), models.Filter(must=[same, *conditions]))
    if replacement.removed:
        now = {name: value for name, value in replacement.expected.items() if name in replacement.removed}
        after = [_is(name, {**now, **replacement.values}) for name in fields]
        keys = [_path(name) for name in replacement.removed]
        removal = models.DeletePayload(keys=keys, filter=models.Filter(must=[same, *after]))
        yield models.DeletePayloadOperation(delete_payload=removal)


def _set(payload: dict[str, Any], condition: models.Filter) -> models.UpdateOperation:
    return models.SetPayloadOperation(set_payload=models.SetPayload(payload=payload, filter=condition))


def _is(name: str, values: Mapping[str, Any]) -> models.Condition:
    """That a field has the value, or where it has none, that it is not there; of a list or an object nothing."""
    path = _path(name)
    if name not in values:
        null = models.IsNullCondition(is_null=models.PayloadField(key=path))
        return models.Filter(must=[models.IsEmptyCondition(is_empty=models.PayloadField(key=path))], must_not=[null])
    match values[name]:
        case None:
            return models.IsNullCondition(is_null=models.PayloadField(key=path))
        case bool() | int() | str() as value:
            return models.FieldCondition(key=path, match=models.MatchValue(value=value))
        case float() as value:  # which the server may have one off
            off = 2 * math.ulp(value)
            return models.FieldCondition(key=path, range=models.Range(gte=value - off, lte=value + off))
    return models.Filter()


def _path(name: str) -> str:
    """A field's name where Qdrant takes a path, in which dots and brackets mean something."""
    if _PLAIN.fullmatch(name):
        return name
    if '"' in name or "\\" in name:
        raise InvalidChangeError(
            f"Qdrant has no path to the field {name!r}: its name has a quotation mark or backslash"
        )
    return f'"{name}"'
