"""The collections of Chroma by name, with their contracts. All of it is steps (`chroma_steps.py`) of its client.

Chroma renames a collection only to a name that is free, and by its id; it deletes by name. So the one that takes
another's place is marked as ready, the other is renamed, and whoever finds nothing of a name, but one that is ready for
it, finishes that first. Only what was renamed is deleted: under the old name there may be something else by then.
"""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final
from weakref import WeakKeyDictionary

from ...core.constants import Distance
from ...core.errors import ConfigurationError, EmbeddingMismatchError, StoreUnavailableError, TransactionError
from .chroma_collection import ChromaCollection
from .chroma_rows import DESCRIPTION
from .chroma_steps import Steps, chroma_errors, read, write
from .contract import ALONE, STAGED, CollectionContract, decided, staged_name

_SPACES: Final = {Distance.COSINE: "cosine", Distance.L2: "l2", Distance.INNER_PRODUCT: "ip"}
_REPLACED: Final = "__replaced"


_known: Final[WeakKeyDictionary[Any, dict[str, tuple[ChromaCollection, float]]]] = WeakKeyDictionary()
"""The collections that a client found, and when. All engines of this process that use it go by the same."""


def remembered(client: Any, name: str, seconds: float) -> Steps[ChromaCollection | None]:
    """The collection, as it was found within these seconds; one that is about to be replaced is always looked for."""
    known = _known.get(client, {}).get(name)
    if known is not None and time.monotonic() - known[1] < seconds:
        return known[0]
    found = yield from find(client, name)
    if found is not None and found.contract.moving_to is None:
        _known.setdefault(client, {})[name] = (found, time.monotonic())
    return found


def forget(client: Any, name: str) -> None:
    _known.get(client, {}).pop(name, None)


def find(client: Any, name: str) -> Steps[ChromaCollection | None]:
    forget(client, name)
    there = yield from _get(client, name)
    if there is None and not name.endswith(STAGED):
        there = yield from _finish(client, name)
    return None if there is None else ChromaCollection(there, _contract(there))


def make(client: Any, name: str, asked: CollectionContract) -> Steps[ChromaCollection]:
    """Make it, unless another does at the same time. Its contract is not checked."""
    if asked.dimension is None:
        raise EmbeddingMismatchError("a collection is made with a dimension")
    try:
        made = yield write(
            client.create_collection,
            name=name,
            embedding_function=None,
            configuration={"hnsw": {"space": _SPACES[asked.distance]}},
            metadata={DESCRIPTION: json.dumps(asked.to_json())},
        )
    except chroma_errors.ChromaError:
        # It is there by now, which the engine and its server say with different errors.
        found = yield from find(client, name)
        if found is None:
            raise
        return found
    return ChromaCollection(made, asked)


def amend(
    client: Any, name: str, change: Callable[[CollectionContract], CollectionContract]
) -> Steps[ChromaCollection | None]:
    found = yield from find(client, name)
    if found is None:
        return None
    contract = change(found.contract)
    if contract != found.contract:  # what is written as it was read might undo what another has written
        try:
            yield from _describe(found.there, contract)
        except chroma_errors.NotFoundError:  # dropped meanwhile
            return None
    forget(client, name)
    return ChromaCollection(found.there, contract)


def replace_by(client: Any, name: str, staged: str, run: str | None) -> Steps[None]:
    there = yield from _get(client, staged)
    if there is None:
        return
    contract = _contract(there)
    old = yield from _get(client, name)
    if not decided(contract, _contract(old) if old else None, run):
        _check_run(old, run, name)
        try:
            yield from _describe(there, replace(contract, replaces=name, ready=run or ALONE))
        except chroma_errors.NotFoundError:
            raise TransactionError(f"{name}: what was to replace it is gone: re-embed again") from None
        old = yield from _get(client, name)
        _check_run(old, run, name)
    if old is not None:
        yield from _put_away(client, old)
    yield from _finish(client, name)
    forget(client, staged)


def _check_run(old: Any, run: str | None, name: str) -> None:
    if old is not None:
        _contract(old).check_run(run, name)


def _put_away(client: Any, old: Any) -> Steps[None]:
    """Make its name free, unless another has."""
    name = old.name
    forget(client, name)
    try:
        yield write(old.modify, name=_away(name))
    except chroma_errors.ChromaError:
        now = yield from _get(client, name)
        if now is not None and now.id == old.id:
            raise


def _away(name: str) -> str:
    """What the one is called, until it is deleted, whose name another is to take."""
    return staged_name(name).removesuffix(STAGED) + _REPLACED + STAGED


def drop(client: Any, name: str) -> Steps[bool]:
    ready = None if name.endswith(STAGED) else (yield from _ready(client, name))
    if ready is not None:
        yield from _delete(client, ready.name)
        yield from _delete(client, _away(name))
    gone = yield from _delete(client, name)
    return gone or ready is not None


def _get(client: Any, name: str) -> Steps[Any]:
    try:
        return (yield read(client.get_collection, name=name, embedding_function=None))
    except chroma_errors.NotFoundError:
        return None


def _delete(client: Any, name: str) -> Steps[bool]:
    forget(client, name)
    try:
        yield write(client.delete_collection, name=name)
    except chroma_errors.NotFoundError:
        return False
    return True


def _ready(client: Any, name: str) -> Steps[Any]:
    """The collection that is to take the place of this one, where it is complete."""
    there = yield from _get(client, staged_name(name))
    return there if there is not None and _contract(there).ready else None


def _finish(client: Any, name: str) -> Steps[Any]:
    """Give the name, which is free, to the collection that is ready for it; None where there is none."""
    there = yield from _ready(client, name)
    if there is None:
        return (yield from _get(client, name))  # another may have finished it in between
    yield from _delete(client, _away(name))
    try:
        yield from _describe(there, replace(_contract(there), replaces=None, ready=None), name)
    except chroma_errors.ChromaError:
        found = yield from _get(client, name)
        if found is None:
            raise
        return found
    return there


def _describe(there: Any, contract: CollectionContract, name: str | None = None) -> Steps[None]:
    metadata = {**(there.metadata or {}), DESCRIPTION: json.dumps(contract.to_json())}
    yield write(there.modify, name=name, metadata=metadata)


def _contract(there: Any) -> CollectionContract:
    known = (there.metadata or {}).get(DESCRIPTION)
    if known is None:
        raise ConfigurationError(
            f"the Chroma collection {there.name!r} was made by another program: name another one in the configuration"
        )
    try:
        return CollectionContract.from_json(json.loads(known))
    except (TypeError, KeyError, ValueError) as error:
        raise StoreUnavailableError(
            f"the Chroma collection {there.name!r} has a contract that cannot be read: {type(error).__name__}"
        ) from error
