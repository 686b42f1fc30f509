"""How a filter is answered: by ids, by an index, or by looking at every document of the collection."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..query.evaluate import holds, resolve
from ..query.operations import Find
from ..query.predicates import And, Compare, Not, Op, Or, Predicate
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
    index: str | None = None
    """The name of the index, or of the key field."""

    @property
    def scans(self) -> bool:
        return self.index is None


def plan(where: Predicate, keys: Keys) -> Plan:
    key = keys.schema.key
    if isinstance(where, Compare) and where.path == key and where.op is Op.EQ:  # most operations are this
        text = keys.id_text(where.value)
        return Plan(ids=() if text is None else (text,), exact=True, index=key)
    terms = list(conjuncts(where))
    if not terms:
        return Plan(exact=True)
    equal: dict[str, tuple[Any, ...]] = {}
    used: dict[str, Predicate] = {}
    for term in terms:
        if isinstance(term, Compare) and (term.op is Op.EQ or (term.op is Op.IN and term.path not in equal)):
            equal[term.path] = (term.value,) if term.op is Op.EQ else term.value
            used[term.path] = term
    if key in equal:
        texts = (keys.id_text(value) for value in equal[key])
        ids = tuple(dict.fromkeys(text for text in texts if text is not None))
        return Plan(ids=ids, exact=len(terms) == 1, index=key)
    best: tuple[str, bool] | None = None
    for name, index in keys.indexes.items():
        if not equal.keys() >= set(index.fields) or (best is not None and not index.unique):
            continue
        conditions = list(conjuncts(index.where))
        if (
            (not conditions or {repr(term) for term in conditions} <= {repr(term) for term in terms})
            and not (index.unique and any(None in equal[field] for field in index.fields))
            and sum([len(equal[field]) > 1 for field in index.fields]) <= (len(index.fields) == 1)
        ):
            # A condition may be one of the comparisons with the fields, so their numbers say nothing.
            covered = {repr(term) for term in (*(used[field] for field in index.fields), *conditions)}
            best = name, all(repr(term) in covered for term in terms)
            if index.unique:
                break
    if best is None:
        return _alternatives(terms, keys)
    name, exact = best
    index = keys.indexes[name]
    *head, last = index.fields
    if not all(equal[field] for field in index.fields):  # one of no values
        return Plan(entries=(), unique=index.unique, index=name, exact=True)
    first = [equal[field][0] for field in head]
    entries = (keys.entry(name, [*first, value]) for value in equal[last])
    return Plan(entries=tuple(dict.fromkeys(entries)), unique=index.unique, index=name, exact=exact)


def _alternatives(terms: list[Predicate], keys: Keys) -> Plan:
    """The plan of an `or` whose alternatives one index serves."""
    for term in terms:
        if isinstance(term, Or) and term.terms and keys.indexes:
            others = tuple(each for each in terms if each is not term)
            plans = [plan(And((each, *others)), keys) for each in term.terms]
            if len({each.index for each in plans}) == 1 and plans[0].entries is not None:
                entries = (entry for each in plans for entry in each.entries or ())
                return Plan(entries=tuple(dict.fromkeys(entries)), unique=plans[0].unique, index=plans[0].index)
    return Plan()


def explain(find: Find, keys: Keys) -> dict[str, Any]:
    """How a search goes about it; `scan` is whether it looks at every document of the collection (SCAN and MGET)."""
    planned = plan(find.where, keys)
    return {
        "store": "redis",
        "index": planned.index,
        "scan": planned.scans,
        "evaluated_here": not planned.exact,
        "sorted_here": bool(find.order_by),
    }


def null_fields(where: Predicate) -> list[str] | None:
    """The fields that have to be None, where the predicate says no more than that."""
    names = []
    for term in conjuncts(where):
        if not (isinstance(term, Compare) and term.op is Op.EQ and term.value is None and "." not in term.path):
            return None
        names.append(term.path)
    return names


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
