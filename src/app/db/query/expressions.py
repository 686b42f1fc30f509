"""Field expressions: `F.age > 25`, `F.address.city == "Riga"`, `(F.a > 1) & ~F.tags.contains("x")`."""

from typing import Any, Final

from .predicates import Predicate, compare


class FieldPath:
    """A field, or a path into one. Attributes lead deeper; a name that is taken here is reached as `F["in_"]`."""

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def __getattr__(self, name: str) -> "FieldPath":
        if name.startswith("__"):  # asked by copy, pickle and the like
            raise AttributeError(name)
        return FieldPath(f"{self._path}.{name}")

    def __getitem__(self, name: str) -> "FieldPath":
        return FieldPath(f"{self._path}.{name}")

    def __eq__(self, value: object) -> Predicate:  # type: ignore[override]  # an expression, as in SQLAlchemy
        return compare(self._path, "=", value)

    def __ne__(self, value: object) -> Predicate:  # type: ignore[override]
        return compare(self._path, "!=", value)

    def __lt__(self, value: Any) -> Predicate:
        return compare(self._path, "<", value)

    def __le__(self, value: Any) -> Predicate:
        return compare(self._path, "<=", value)

    def __gt__(self, value: Any) -> Predicate:
        return compare(self._path, ">", value)

    def __ge__(self, value: Any) -> Predicate:
        return compare(self._path, ">=", value)

    __hash__ = object.__hash__

    def in_(self, values: Any) -> Predicate:
        return compare(self._path, "in", values)

    def not_in(self, values: Any) -> Predicate:
        return compare(self._path, "not in", values)

    def contains(self, value: Any) -> Predicate:
        """A part of a text, or an element of a list."""
        return compare(self._path, "contains", value)

    def startswith(self, value: str) -> Predicate:
        return compare(self._path, "startswith", value)

    def exists(self) -> Predicate:
        """The field is there and not None."""
        return compare(self._path, "exists")

    def is_null(self) -> Predicate:
        return compare(self._path, "is null")

    def __repr__(self) -> str:
        return f"F[{self._path!r}]"


class _Fields:
    __slots__ = ()

    def __getattr__(self, name: str) -> FieldPath:
        if name.startswith("__"):
            raise AttributeError(name)
        return FieldPath(name)

    def __getitem__(self, path: str) -> FieldPath:
        return FieldPath(path)


F: Final = _Fields()
"""The fields of whatever is asked; names are checked by the repository that is given the expression."""
