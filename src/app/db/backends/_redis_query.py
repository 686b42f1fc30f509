"""How a filter is answered: by ids, by an index, or by looking at every document of the collection."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..query.evaluate import holds, resolve
from ..query.predicates import ALL, And, Compare, Not, Op, Or, Predicate
from ._redis_keys import Keys, canonical

Matcher: TypeAlias = Callable[[Mapping[str, Any]], bool]

_FEW = 8  # beyond that a set is quicker than one comparison after the other


@dataclass(frozen=True, slots=True)
class Plan:
    """Where the documents that may match are; without ids and entries, anywhere."""

    ids: tuple[str, ...] | None = None
    entries: tuple[str, ...] | None = None
    unique: bool = False
    exact: bool = False
    """Whether what is found matches, with nothing left to evaluate."""


def plan(where: Predicate, keys: Keys) -> Plan:
    terms = list(conjuncts(where))
    equal: dict[str, tuple[Any, ...]] = {}
    for term in terms:
        if isinstance(term, Compare) and term.op is Op.EQ:
            equal[term.path] = (term.value,)
        elif isinstance(term, Compare) and term.op is Op.IN:
            equal.setdefault(term.path, term.value)
    key = keys.schema.key
    if key in equal:
        texts = (keys.id_text(value) for value in equal[key])
        return Plan(ids=tuple(dict.fromkeys(text for text in texts if text is not None)), exact=len(terms) == 1)
    usable = [
        (name, index)
        for name, index in keys.indexes.items()
        if all(field in equal for field in index.fields)
        and (index.where == ALL or {repr(term) for term in conjuncts(index.where)} <= {repr(term) for term in terms})
        and not (index.unique and any(None in equal[field] for field in index.fields))
        and sum(len(equal[field]) > 1 for field in index.fields) <= (len(index.fields) == 1)
    ]
    for name, index in sorted(usable, key=lambda each: not each[1].unique):
        *head, last = index.fields
        first = [equal[field][0] for field in head]
        entries = (keys.entry(name, [*first, value]) for value in equal[last])
        return Plan(entries=tuple(dict.fromkeys(entries)), unique=index.unique)
    return Plan()


def conjuncts(where: Predicate) -> Iterator[Predicate]:
    if isinstance(where, And):
        for term in where.terms:
            yield from conjuncts(term)
    else:
        yield where


def matcher(where: Predicate) -> Matcher:
    """`evaluate.matches` for one predicate and many documents."""
    match where:
        case Compare(path, Op.IN, values) if len(values) > _FEW:
            texts = {canonical(value) for value in values}
            return lambda document: canonical(resolve(document, path)) in texts
        case Compare(path, op, value):
            return lambda document: holds(op, resolve(document, path), value)
        case Not(term):
            inner = matcher(term)
            return lambda document: not inner(document)
        case And(terms):
            parts = [matcher(term) for term in terms]
            return lambda document: all(part(document) for part in parts)
        case Or(terms):
            parts = [matcher(term) for term in terms]
            return lambda document: any(part(document) for part in parts)
