"""A row as documents have it, for the journals that are read by repositories."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapper

from ..models.mapped_types import form_of
from .sqlite_engine import take_write_lock


def stored_document(connection: sa.Connection, mapper: Mapper[Any], key: Any, *, lock: bool = False) -> dict[str, Any]:
    """What is stored now: only the database knows what it made of a flush. With `lock` nobody else changes it."""
    columns: dict[str, Any] = {attribute.key: attribute.columns[0] for attribute in mapper.column_attrs}
    selected = sa.select(*columns.values()).select_from(mapper.persist_selectable).where(mapper.primary_key[0] == key)
    if lock and connection.dialect.name == "sqlite":  # which has no locks of rows
        take_write_lock(connection)
    row = connection.execute(selected.with_for_update() if lock else selected).first()
    if row is None:
        return {}
    return {
        name: None if value is None else form_of(column.type).to_document(value)
        for (name, column), value in zip(columns.items(), row, strict=True)
    }
