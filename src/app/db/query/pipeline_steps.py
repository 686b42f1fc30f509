"""What each stage of a checked pipeline does to the documents, some at a time."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from .accumulators import ACCUMULATORS, Accumulator
from .comparison import identity, sort_key
from .evaluate import matches, resolve
from .operations import Document
from .pipeline_expressions import Reader, reader


class Step(ABC):
    """Takes documents as they come and gives on what it has of them; at the end, the rest."""

    full = False
    """Whether nothing that comes can change the result any more."""

    @abstractmethod
    def take(self, documents: Iterable[Document]) -> Iterable[Document]: ...

    def end(self) -> Iterable[Document]:
        return ()


class _Match(Step):
    def __init__(self, where: Any) -> None:
        self._where = where

    def take(self, documents: Iterable[Document]) -> Iterator[Document]:
        return (each for each in documents if matches(self._where, each))


class _Project(Step):
    """Paths with True are kept, paths with False left out, and all others computed."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._kept = _tree([path for path, value in spec.items() if value is True])
        self._left_out = _tree([path for path, value in spec.items() if value is False])
        self._computed = [
            (path.split("."), reader(each)) for path, each in spec.items() if each is not True and each is not False
        ]

    def take(self, documents: Iterable[Document]) -> Iterator[Document]:
        for document in documents:
            if self._left_out:
                yield _without(document, self._left_out)
                continue
            yield _computed(_only(document, self._kept), self._computed, document)


class _AddFields(Step):
    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._computed = [(path.split("."), reader(each)) for path, each in spec.items()]

    def take(self, documents: Iterable[Document]) -> Iterator[Document]:
        for document in documents:
            yield _computed(document, self._computed, document)


class _Group(Step):
    """Holds one set of accumulators for each group, in the order in which the groups came."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._key = reader(spec["_id"])
        self._fields: list[tuple[str, Callable[[], Accumulator], Reader]] = []
        for name, accumulator in spec.items():
            if name != "_id":
                [(operator, expression)] = accumulator.items()
                self._fields.append((name, ACCUMULATORS[operator], reader(expression)))
        self._groups: dict[Any, tuple[Any, list[Accumulator]]] = {}

    def take(self, documents: Iterable[Document]) -> Iterable[Document]:
        for document in documents:
            key = self._key(document)
            group = self._groups.get(identity(key))
            if group is None:
                group = self._groups[identity(key)] = (key, [make() for _, make, _ in self._fields])
            for (_, _, read), accumulator in zip(self._fields, group[1], strict=True):
                accumulator.add(read(document))
        return ()

    def end(self) -> Iterator[Document]:
        for key, accumulators in self._groups.values():
            values = {name: each.result() for (name, _, _), each in zip(self._fields, accumulators, strict=True)}
            yield {"_id": key, **values}


class _Sort(Step):
    """Holds what it sorts; of that only the first `most`, where a `$limit` follows."""

    def __init__(self, spec: Mapping[str, int], most: int | None) -> None:
        self._orders = [(path, direction < 0) for path, direction in reversed(list(spec.items()))]
        self._most = most
        self._held: list[Document] = []

    def take(self, documents: Iterable[Document]) -> Iterable[Document]:
        self._held.extend(documents)
        if self._most is not None and len(self._held) > 2 * self._most + _SLACK:
            self._cut()
        return ()

    def end(self) -> Iterable[Document]:
        self._cut()
        return self._held

    def _cut(self) -> None:
        for path, descending in self._orders:
            self._held.sort(key=_order_of(path, descending=descending), reverse=descending)
        if self._most is not None:
            del self._held[self._most :]


_SLACK: Final = 1000


class _Skip(Step):
    def __init__(self, rows: int) -> None:
        self._rows = rows

    def take(self, documents: Iterable[Document]) -> Iterator[Document]:
        for document in documents:
            if self._rows:
                self._rows -= 1
            else:
                yield document


class _Limit(Step):
    def __init__(self, rows: int) -> None:
        self._rows = rows

    def take(self, documents: Iterable[Document]) -> Iterator[Document]:
        for document in documents:
            if self._rows:
                self._rows -= 1
                self.full = self._rows == 0
                yield document
            if self.full:
                return


class _Count(Step):
    """Nothing at all is counted as no document, not as 0."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._count = 0

    def take(self, documents: Iterable[Document]) -> Iterable[Document]:
        self._count += sum(1 for _ in documents)
        return ()

    def end(self) -> Iterable[Document]:
        return [{self._name: self._count}] if self._count else []


class _Unwind(Step):
    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._names = spec["path"][1:].split(".")
        self._keeps_empty = spec["preserveNullAndEmptyArrays"]

    def take(self, documents: Iterable[Document]) -> Iterator[Document]:
        for document in documents:
            value = resolve(document, ".".join(self._names))
            if isinstance(value, list) and value:
                for item in value:
                    yield _with(document, self._names, item)
            elif value is not None and not isinstance(value, list):
                yield document
            elif self._keeps_empty:
                yield document if value is None else _with(document, self._names, None)


def steps(stages: Sequence[Mapping[str, Any]]) -> list[Step]:
    result: list[Step] = []
    for position, stage in enumerate(stages):
        [(name, spec)] = stage.items()
        result.append(_Sort(spec, _most(stages[position + 1 :])) if name == "$sort" else _STEPS[name](spec))
    return result


_STEPS: Final[Mapping[str, Callable[[Any], Step]]] = {
    "$match": _Match,
    "$project": _Project,
    "$addFields": _AddFields,
    "$group": _Group,
    "$skip": _Skip,
    "$limit": _Limit,
    "$count": _Count,
    "$unwind": _Unwind,
}


def _most(following: Sequence[Mapping[str, Any]]) -> int | None:
    """How many of the sorted documents the stages behind can come to see."""
    skipped = 0
    for stage in following:
        [(name, spec)] = stage.items()
        if name == "$limit":
            return skipped + int(spec)
        if name != "$skip":
            return None
        skipped += spec
    return None


def _order_of(path: str, *, descending: bool) -> Callable[[Document], tuple[int, Any]]:
    """A list sorts by its smallest element, descending by its largest; an empty one comes before None."""

    def key(document: Document) -> tuple[int, Any]:
        value = resolve(document, path)
        if not isinstance(value, list):
            return sort_key(value)
        keys = [sort_key(item) for item in value]
        return (-1, 0) if not keys else max(keys) if descending else min(keys)

    return key


def _tree(paths: Iterable[str]) -> dict[str, Any]:
    """`["a", "b.c"]` → `{"a": {}, "b": {"c": {}}}`."""
    tree: dict[str, Any] = {}
    for path in paths:
        branch = tree
        for name in path.split("."):
            branch = branch.setdefault(name, {})
    return tree


def _only(value: Any, tree: Mapping[str, Any]) -> Any:
    """What the tree names, None where it is missing; in each document of a list."""
    if isinstance(value, list):
        return [_only(item, tree) for item in value if isinstance(item, Mapping | list)]
    if not isinstance(value, Mapping):
        return None
    return {name: _only(value.get(name), below) if below else value.get(name) for name, below in tree.items()}


def _without(value: Any, tree: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_without(item, tree) for item in value]
    if not isinstance(value, Mapping):
        return value
    return {
        name: _without(item, tree[name]) if name in tree else item
        for name, item in value.items()
        if name not in tree or tree[name]
    }


def _computed(result: Document, fields: Iterable[tuple[list[str], Reader]], document: Document) -> Document:
    """A copy with the fields: one copy for all, since one for each takes the square of their number."""
    result = dict(result)
    for (name, *below), read in fields:
        new = read(document)
        result[name] = _with(result.get(name), below, new) if below else new
    return result


def _with(value: Any, names: Sequence[str], new: Any) -> Any:
    """A copy with the value at the path; in each document of a list, and instead of what is no document."""
    if not names:
        return new
    if isinstance(value, list):
        return [_with(item, names, new) for item in value]
    below = value if isinstance(value, Mapping) else {}
    return {**below, names[0]: _with(below.get(names[0]), names[1:], new)}
