"""What a repository of `Thing` does, in plain Python: the model that random programs are compared with."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field

from app.db import Entity, Repository, SoftDeletable
from app.db.backends import Index
from app.db.query import to_predicate
from app.db.query.evaluate import matches

UNIQUE = (("code",), ("shelf", "weight"))
Row = dict[str, Any]


class Thing(Entity, SoftDeletable):
    code: str | None = None
    shelf: int = 0
    weight: float | None = None
    label: str | None = None
    tags: list[str] = Field(default_factory=list)


class Things(Repository[Thing]):
    indexes = (Index("code", unique=True), Index("shelf", "weight", unique=True, name="place"), Index("label"))


class TakenError(Exception):
    """A unique value or an id belongs to another record."""


class Model:
    """Records by id, with `deleted_at` as whether they are deleted. A step that fails changes nothing."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    def run(self, name: str, *arguments: Any) -> Any:
        before = copy.deepcopy(self.rows)
        try:
            return getattr(self, name)(*arguments)
        except TakenError:
            self.rows = before
            raise

    def live(self, filter: Mapping[str, Any] | None = None) -> list[Row]:
        where = to_predicate(filter)
        return [row for _, row in sorted(self.rows.items()) if not row["deleted_at"] and matches(where, row)]

    def find(self, filter: Mapping[str, Any]) -> list[Row]:
        return copy.deepcopy(self.live(filter))

    def count(self, filter: Mapping[str, Any]) -> int:
        return len(self.live(filter))

    def create(self, row: Row) -> Row:
        if row["id"] in self.rows:
            raise TakenError
        return self._put(row)

    def create_many(self, rows: list[Row]) -> list[Row]:
        return [self.create(row) for row in rows]

    def put_if_absent(self, row: Row) -> bool:
        return row["id"] not in self.rows and bool(self._put(row))

    def update(self, id: str, changes: Row) -> Row | None:
        return self._change(id, lambda _: changes)

    def update_many(self, filter: Mapping[str, Any], changes: Row) -> int:
        return len([self._put({**row, **changes}) for row in self.live(filter)])

    def compare_and_set(self, id: str, expected: Row, changes: Row) -> Row | None:
        return self._change(id, lambda row: changes if expected.items() <= row.items() else None)

    def increment(self, id: str, field: str, by: int) -> Any:
        row = self._change(id, lambda row: {field: row[field] + by})
        return row and row[field]

    def upsert(self, row: Row, on: tuple[str, ...]) -> Row:
        if on == ("id",):
            found = self.rows.get(row["id"])
            if found is not None and found["deleted_at"]:
                raise TakenError
        else:
            same = [each for each in self.live() if all(each[name] == row[name] is not None for name in on)]
            found = same[0] if same else None
        return self.create(row) if found is None else self._put({**row, "id": found["id"]})

    def upsert_many(self, rows: list[Row], on: tuple[str, ...]) -> int:
        return len([self.upsert(row, on) for row in rows])

    def delete(self, id: str, hard: bool) -> bool:
        row = self.rows.get(id)
        if row is None or row["deleted_at"]:
            return False
        if hard:
            del self.rows[id]
        else:
            row["deleted_at"] = True
        return True

    def delete_many(self, filter: Mapping[str, Any]) -> int:
        return sum(self.delete(row["id"], False) for row in self.live(filter))

    def restore(self, id: str) -> Row | None:
        row = self.rows.get(id)
        return self._put({**row, "deleted_at": False}) if row and row["deleted_at"] else None

    def _change(self, id: str, make: Callable[[Row], Row | None]) -> Row | None:
        row = self.rows.get(id)
        changes = None if row is None or row["deleted_at"] else make(row)
        return None if row is None or changes is None else self._put({**row, **changes})

    def _put(self, row: Row) -> Row:
        for names in UNIQUE:
            values = [row[name] for name in names]
            for other in self.live():
                if other["id"] != row["id"] and None not in values and [other[name] for name in names] == values:
                    raise TakenError
        self.rows[row["id"]] = copy.deepcopy(row)
        return copy.deepcopy(row)


def row_of(thing: Thing) -> Row:
    return {**thing.model_dump(), "deleted_at": thing.deleted_at is not None}
