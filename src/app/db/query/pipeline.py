"""Aggregation pipelines in MongoDB's spelling: what is in the language, and what it means on every store.

The stages are as MongoDB documents them, but that a missing field is None: it is counted, pushed and given out as None.
"""

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ...core.errors import InvalidFilterError, did_you_mean
from .accumulators import ACCUMULATORS
from .operations import Document
from .ordering import check_field, read_rows
from .pipeline_expressions import check_expression, check_output, head, source
from .pipeline_steps import steps
from .predicates import ALL, MAX_DEPTH, Predicate, both, check_path, comparisons, to_predicate

Stage: TypeAlias = Mapping[str, Any]

MAX_STAGES: Final = 100


def check_pipeline(
    pipeline: object, key: str = "id", fields: Collection[str] | None = None
) -> tuple[Predicate, tuple[Stage, ...]]:
    """Return the filter of the `$match` that the pipeline begins with, and the other stages in their full form.

    `fields` are those of the documents, None where they may have any. InvalidFilterError for what is not in the
    language, and for a field that the documents do not have at that stage.
    """
    if not isinstance(pipeline, list | tuple) or not all(isinstance(stage, Mapping) for stage in pipeline):
        raise InvalidFilterError("a pipeline is a list of stages, such as [{'$match': {…}}, {'$group': {…}}]")
    if len(pipeline) > MAX_STAGES:
        raise InvalidFilterError(f"a pipeline may have {MAX_STAGES} stages, no more")
    scope = _Scope(key, None if fields is None else frozenset(fields))
    stages: list[Stage] = []
    for stage in pipeline:
        if len(stage) != 1:
            raise InvalidFilterError("a stage is a dict of one stage name, such as {'$limit': 10}")
        [(name, spec)] = stage.items()
        check = _STAGES.get(str(name))
        if check is None:
            raise InvalidFilterError(
                f"unknown stage {name!r}{did_you_mean(str(name), _STAGES)}; there is: {', '.join(_STAGES)}"
            )
        checked, scope = check(spec, scope)
        stages.extend(checked)
    where: Predicate = ALL
    while stages and "$match" in stages[0]:
        where = both(where, stages.pop(0)["$match"])
    return where, tuple(stages)


async def run_pipeline(batches: AsyncGenerator[list[Document], None], stages: Sequence[Stage]) -> list[Document]:
    """Run checked stages. Groups, what a `$sort` holds and the result are in memory, and one batch."""
    chain = steps(stages)
    result: list[Document] = []
    async with aclosing(batches):
        async for documents in batches:
            result += _through(chain, documents)
            if any(step.full for step in chain):
                break
    for position, step in enumerate(chain):
        result += _through(chain[position + 1 :], step.end())
    return result


@dataclass(frozen=True, slots=True)
class _Scope:
    """The documents at one stage."""

    key: str | None
    """The field that `$project` keeps unless it is told not to."""
    fields: frozenset[str] | None
    """None where they may have any."""

    def check(self, path: str) -> None:
        if self.fields is not None:
            check_field(head(path), self.fields, "at this stage of the pipeline")

    def having(self, names: Collection[str]) -> "_Scope":
        return self if self.fields is None else _Scope(self.key, self.fields | frozenset(names))


_Checked: TypeAlias = tuple[list[Stage], _Scope]


def _match(spec: Any, scope: _Scope) -> _Checked:
    if not isinstance(spec, Mapping):
        raise InvalidFilterError("$match needs a filter, such as {'age': {'$gt': 25}}")
    where = to_predicate(spec)
    for each in comparisons(where):
        scope.check(each.path)
    return [{"$match": where}], scope


def _project(spec: Any, scope: _Scope) -> _Checked:
    given = _flat(_filled(spec, "$project"), "$project")
    wanted = {path: _kept(value) for path, value in given.items()}
    for path, flag in wanted.items():
        if flag is not None:
            scope.check(path)
    others = {flag for path, flag in wanted.items() if path != scope.key}
    if len(given) == 1 and wanted.get(scope.key or "") is False:
        others = {False}
    if others == {False}:
        if wanted.get(scope.key or "") is True:
            raise InvalidFilterError("$project either names the fields to keep, or those to leave out")
        left = None if scope.fields is None else scope.fields - {path for path in given if "." not in path}
        return [{"$project": dict.fromkeys(given, False)}], _Scope(None if scope.key in given else scope.key, left)
    if False in others:
        raise InvalidFilterError("$project either names the fields to keep, or those to leave out")
    result: dict[str, Any] = {}
    if scope.key is not None and scope.key not in wanted:
        result[scope.key] = True
    for path, value in given.items():
        if wanted[path] is None:
            result[path] = check_expression(value, f"$project {path}", scope.check)
        elif wanted[path]:
            result[path] = True
    heads = frozenset(map(head, result))
    return [{"$project": result}], _Scope(scope.key if scope.key in heads else None, heads)


def _add_fields(spec: Any, scope: _Scope) -> _Checked:
    given = _flat(_filled(spec, "$addFields"), "$addFields")
    checked = {path: check_expression(each, f"$addFields {path}", scope.check) for path, each in given.items()}
    return [{"$addFields": checked}], scope.having([head(path) for path in checked])


def _group(spec: Any, scope: _Scope) -> _Checked:
    if "_id" not in _filled(spec, "$group"):
        raise InvalidFilterError("$group needs an _id: '$field', a dict of fields, or None for one group of all")
    result: dict[str, Any] = {"_id": check_expression(spec["_id"], "$group _id", scope.check)}
    for name, accumulator in spec.items():
        if name == "_id":
            continue
        place = f"$group {check_output(name, '$group')}"
        if not isinstance(accumulator, Mapping) or len(accumulator) != 1:
            raise InvalidFilterError(f"{place}: needs one accumulator, such as {{'$sum': '$price'}}")
        [(operator, expression)] = accumulator.items()
        if operator not in ACCUMULATORS:
            raise InvalidFilterError(
                f"{place}: unknown accumulator {operator!r}{did_you_mean(str(operator), ACCUMULATORS)}; "
                f"there is: {', '.join(ACCUMULATORS)}"
            )
        if operator == "$count" and expression != {}:
            raise InvalidFilterError(f"{place}: $count takes an empty dict")
        result[name] = {operator: check_expression(expression, f"{place}: {operator}", scope.check)}
    return [{"$group": result}], _Scope("_id", frozenset(result))


def _sort(spec: Any, scope: _Scope) -> _Checked:
    for path, direction in _filled(spec, "$sort").items():
        scope.check(check_path(path))
        if isinstance(direction, bool) or direction not in (1, -1):
            raise InvalidFilterError(f"$sort {path}: 1 for ascending or -1 for descending")
    return [{"$sort": dict(spec)}], scope


def _skip(spec: Any, scope: _Scope) -> _Checked:
    if spec is None:
        raise InvalidFilterError("$skip needs a whole number from 0")
    return [{"$skip": read_rows(spec)}], scope


def _limit(spec: Any, scope: _Scope) -> _Checked:
    if not spec:
        raise InvalidFilterError("$limit needs a whole number from 1")
    return [{"$limit": read_rows(spec)}], scope


def _count(spec: Any, scope: _Scope) -> _Checked:  # noqa: ARG001 - one signature for all
    name = check_output(spec, "$count")
    return [{"$count": name}], _Scope(None, frozenset({name}))


def _unwind(spec: Any, scope: _Scope) -> _Checked:
    options = {"path": spec} if isinstance(spec, str) else _filled(spec, "$unwind")
    unknown = sorted(map(str, options.keys() - {"path", "preserveNullAndEmptyArrays"}))
    if unknown:
        raise InvalidFilterError(f"$unwind takes path and preserveNullAndEmptyArrays, not {', '.join(unknown)}")
    scope.check(source(options.get("path"), "$unwind"))
    keeps_empty = options.get("preserveNullAndEmptyArrays", False)
    if not isinstance(keeps_empty, bool):
        raise InvalidFilterError("$unwind: preserveNullAndEmptyArrays is True or False")
    return [{"$unwind": {"path": options["path"], "preserveNullAndEmptyArrays": keeps_empty}}], scope


def _sort_by_count(spec: Any, scope: _Scope) -> _Checked:
    source(spec, "$sortByCount")
    grouped, after = _group({"_id": spec, "count": {"$sum": 1}}, scope)
    return [*grouped, {"$sort": {"count": -1}}], after


_STAGES: Final[Mapping[str, Callable[[Any, _Scope], _Checked]]] = {
    "$match": _match,
    "$project": _project,
    "$addFields": _add_fields,
    "$set": _add_fields,
    "$group": _group,
    "$sort": _sort,
    "$skip": _skip,
    "$limit": _limit,
    "$count": _count,
    "$unwind": _unwind,
    "$sortByCount": _sort_by_count,
}


def _through(chain: Sequence[Any], documents: Any) -> list[Document]:
    for step in chain:
        documents = step.take(documents)
    return list(documents)


def _filled(spec: Any, stage: str) -> Mapping[str, Any]:
    if not isinstance(spec, Mapping) or not spec:
        raise InvalidFilterError(f"{stage} needs a dict with something in it")
    return spec


def _flat(spec: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """`{"a": {"b": 1}}` → `{"a.b": 1}`; no path may lie within another."""
    result: dict[str, Any] = {}

    def collect(given: Mapping[str, Any], above: str, depth: int) -> None:
        if depth == 0:
            raise InvalidFilterError(f"{stage}: nested more than {MAX_DEPTH} levels deep")
        for name, value in given.items():
            if str(name).startswith("$"):
                raise InvalidFilterError(
                    f"{stage}: the operator {name!r} is not in the language; there are '$field' and $literal"
                )
            path = f"{above}{check_path(name)}"
            if isinstance(value, Mapping) and value and "$literal" not in value:
                collect(value, f"{path}.", depth - 1)
            elif path in result:
                raise InvalidFilterError(f"{stage}: {path!r} stands there twice")
            else:
                result[path] = value

    collect(spec, "", MAX_DEPTH)
    for path in result:
        parts = path.split(".")
        if any(".".join(parts[:length]) in result for length in range(1, len(parts))):
            raise InvalidFilterError(f"{stage}: {path!r} lies within another of its paths")
    return result


def _kept(value: Any) -> bool | None:
    """Whether `$project` keeps the field or leaves it out; None where it computes it."""
    return bool(value) if isinstance(value, bool | int | float) else None
