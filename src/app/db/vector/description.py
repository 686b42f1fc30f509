"""What a vector store's collection is, and whether the store can use it."""

from dataclasses import dataclass, field

from ...core.errors import AppError
from ..query import ALL
from .contract import CollectionContract, staged_name
from .store import CollectionVectorStore


@dataclass(slots=True)
class CollectionDescription:
    """`contract` and `rows` are None where there is no collection yet, or it could not be asked."""

    store: str
    engine: str
    connection: str
    collection: str
    rows: int | None = field(default=None, init=False)
    contract: CollectionContract | None = field(default=None, init=False)
    problem: str | None = field(default=None, kw_only=True)
    """Why the store cannot use it, and the way out."""
    staged: CollectionContract | None = field(default=None, init=False)
    """Of the collection that is to take its place: a re-embedding is under way, or was stopped."""
    staged_rows: int | None = field(default=None, init=False)


async def describe(store: CollectionVectorStore) -> CollectionDescription:
    """Ask the collection what it is. Nothing is written or embedded, and what goes wrong is the `problem`."""
    found = CollectionDescription(store.name, str(store.engine_type), store.connection.name, store.collection)
    try:
        found.contract, found.rows = await _look(store, store.collection)
        if found.contract is not None:
            found.staged, found.staged_rows = await _look(store, staged_name(store.collection))
            asked = await store._contract()  # noqa: SLF001 - of the same package
            found.contract.check(asked, f"the collection {store.collection!r}")
    except AppError as error:
        found.problem = str(error)
    return found


async def _look(store: CollectionVectorStore, collection: str) -> tuple[CollectionContract | None, int | None]:
    contract: CollectionContract | None = None

    async def as_it_is(_: int | None) -> CollectionContract:
        assert contract is not None  # noqa: S101 - asked for below, when it is known
        return contract

    engine = store.engine_on(collection, as_it_is)
    contract = await engine.contract()
    return contract, None if contract is None else await engine.count(ALL)
