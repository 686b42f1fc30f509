"""Aggregation pipelines in MongoDB's spelling, and what they mean in plain Python."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from ...core.errors import InvalidFilterError
from .operations import Document
from .predicates import Filter


def check_pipeline(pipeline: object) -> tuple[Filter, tuple[Mapping[str, Any], ...]]:
    """Return the filter of the `$match` that the pipeline begins with, and the other stages.

    InvalidFilterError for what is not in the language.
    """
    if not isinstance(pipeline, list | tuple) or not all(isinstance(stage, Mapping) for stage in pipeline):
        raise InvalidFilterError("a pipeline is a list of stages, such as [{'$match': {…}}, {'$group': {…}}]")
    return None, tuple(pipeline)


async def run_pipeline(batches: AsyncIterator[list[Document]], stages: Sequence[Mapping[str, Any]]) -> list[Document]:
    raise NotImplementedError
