"""Qdrant: each collection's own account of its points, vectors, segments and payload indexes; it counts no uses."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .base import Allowance, CollectionStatistics, IndexStatistics, StoreStatistics, connected, each, used_space

if TYPE_CHECKING:
    from ...connections._qdrant_embedded import Collections, QdrantEngine
    from ...connections.qdrant import QdrantConnectionManager


async def read(manager: "QdrantConnectionManager") -> StoreStatistics:
    async with connected(manager) as (client, allowance):
        if manager.address is None:
            return await _read_engine(manager, client, allowance)
        return await _read_server(manager, allowance)


async def _read_engine(
    manager: "QdrantConnectionManager", engine: "QdrantEngine", allowance: Allowance
) -> StoreStatistics:
    """A collection that nobody has used yet is opened for it, and stays open."""
    collections, notes = await each(
        await engine.read(lambda kept: kept.names()),
        allowance,
        lambda name: engine.read(lambda kept: _of_shard(kept, name)),
    )
    return StoreStatistics(
        manager.name,
        manager.connection_type,
        size_bytes=await asyncio.to_thread(used_space, manager.path),
        collections=collections,
        notes=notes,
    )


def _of_shard(collections: "Collections", name: str) -> CollectionStatistics | None:
    contract = collections.contract(name)
    if contract is None:
        return None
    info = collections.shard(name).info()
    dimension, distance = contract.get("dimension"), contract.get("distance")
    return CollectionStatistics(
        name,
        info.points_count,
        exact=True,
        size_bytes=used_space(str(collections.path / name)),
        indexes=_payload_indexes({field: index.data_type for field, index in info.payload_schema.items()}),
        details={
            "segments": info.segments_count,
            "indexed_vectors": info.indexed_vectors_count,
            "vectors": f"{dimension} {distance}" if dimension else None,
        },
    )


async def _read_server(manager: "QdrantConnectionManager", allowance: Allowance) -> StoreStatistics:
    async def collection(name: str) -> CollectionStatistics | None:
        from qdrant_client.http.exceptions import UnexpectedResponse  # noqa: PLC0415 - an optional package

        try:
            return _of_server(name, await manager.read(lambda client: client.get_collection(name)))  # type: ignore[union-attr]
        except UnexpectedResponse as error:
            if error.status_code == _NOT_FOUND:
                return None
            raise

    listed = await manager.read(lambda client: client.get_collections())  # type: ignore[union-attr]
    collections, notes = await each([one.name for one in listed.collections], allowance, collection)
    return StoreStatistics(
        manager.name,
        manager.connection_type,
        collections=collections,
        notes=(*notes, "a Qdrant server does not tell its size on disk"),
    )


_NOT_FOUND = 404


def _of_server(name: str, info: Any) -> CollectionStatistics:
    return CollectionStatistics(
        name,
        info.points_count,
        exact=False,  # Qdrant calls it approximate
        indexes=_payload_indexes({field: index.data_type for field, index in (info.payload_schema or {}).items()}),
        details={
            "segments": info.segments_count,
            "indexed_vectors": info.indexed_vectors_count,
            "vectors": _vectors(info.config.params.vectors),
            "status": _word(info.status),
        },
    )


def _vectors(given: Any) -> str | None:
    """`384 cosine`, or the same for each name."""
    if isinstance(given, Mapping):
        return ", ".join(f"{name}: {_vectors(one)}" for name, one in given.items()) or None
    return None if given is None else f"{given.size} {_word(given.distance).lower()}"


def _payload_indexes(types: Mapping[str, Any]) -> tuple[IndexStatistics, ...]:
    return tuple(
        IndexStatistics(field, (field,), _word(kind).lower(), unique=False) for field, kind in sorted(types.items())
    )


def _word(member: Any) -> str:
    """What a member of an enumeration is called, in both of the engine's packages."""
    return str(getattr(member, "value", member)).rpartition(".")[2]
