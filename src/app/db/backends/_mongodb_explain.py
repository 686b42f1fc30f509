"""The plan of a query, and the index in it."""

from collections.abc import Iterator, Mapping
from typing import Any


def winning_plan(answer: Mapping[str, Any]) -> Any:
    """The plan that the planner chose; of a sharded cluster, those of all shards are within."""
    planner: Mapping[str, Any] = answer.get("queryPlanner") or next(_values(answer, "queryPlanner"), {})
    plan = planner.get("winningPlan", {})
    # The slot-based engine has the plan in words that people know one level deeper.
    return plan.get("queryPlan", plan) if isinstance(plan, Mapping) else plan


def index_of(plan: Any) -> str | None:
    """The name of the index that is used; None where some part of the plan looks at every document."""
    if "COLLSCAN" in _values(plan, "stage"):
        return None
    if any(stage == "IDHACK" or str(stage).startswith("EXPRESS_CLUSTERED") for stage in _values(plan, "stage")):
        return "_id_"
    return next((str(name) for name in _values(plan, "indexName")), None)


def _values(node: Any, key: str) -> Iterator[Any]:
    if isinstance(node, Mapping):
        for name, value in node.items():
            if name == key:
                yield value
            yield from _values(value, key)
    elif isinstance(node, list):
        for each in node:
            yield from _values(each, key)
