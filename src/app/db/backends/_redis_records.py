"""The documents of one collection in Redis: read where a plan says they are, written by compare-and-set."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeAlias

from redis.exceptions import RedisError, ResponseError

from ...core.errors import AppError, DuplicateRecordError, StoreUnavailableError
from ..query.predicates import Predicate
from ._redis_documents import Documents, Record
from ._redis_keys import Keys
from ._redis_query import Plan, matcher, plan
from ._redis_scripts import LOOKUP, WRITE, run
from .base import Index

BATCH: Final = 500  # keys in one command, so that no single one holds up the server

Lifetime: TypeAlias = int | str
"""Milliseconds, '' for what is left, or 'none'."""


class Mode(StrEnum):
    """Which of several documents are written, as the script `WRITE` says it."""

    EACH = "each"
    ALL = "all"
    TOGETHER = "together"


@dataclass(slots=True)
class Write:
    """One document for the script `WRITE`; no `new` deletes it, and the expected text as `new` compares it."""

    keys: Keys
    id: str
    expected: str = ""
    new: str = ""
    lifetime: Lifetime = ""
    removed: Sequence[str] = ()
    left: Sequence[str] = ()
    unique: Mapping[str, Index] = field(default_factory=dict)
    sets: Sequence[str] = ()


def insertion(keys: Keys, record: Record, lifetime: Lifetime) -> Write:
    if not keys.indexes:
        return Write(keys, record.id, new=record.text, lifetime=lifetime)
    unique, sets = keys.entries(record.document)
    # Not as a list: what thousands wait with is gone through by every garbage collection, but tuples of texts.
    return Write(keys, record.id, "", record.text, lifetime, (), (), unique, tuple(sets))


def replacement(
    keys: Keys, old: Record, new: Record | None, lifetime: Lifetime = "", *, entries: bool = False
) -> Write:
    """`entries` has those that the document needs written also where they should be there."""
    text = "" if new is None else new.text
    if not entries and (not keys.indexes or (new is not None and lifetime == "" and _same(keys, old, new))):
        return Write(keys, old.id, expected=old.text, new=text, lifetime=lifetime)
    unique, sets = keys.entries(old.document)
    new_unique, new_sets = keys.entries(new.document) if new is not None else ({}, [])
    return Write(
        keys,
        old.id,
        expected=old.text,
        new=text,
        lifetime=lifetime,
        removed=[key for key in unique if key not in new_unique],
        left=[key for key in sets if key not in new_sets],
        unique=new_unique,
        sets=new_sets,
    )


def _same(keys: Keys, old: Record, new: Record) -> bool:
    """Whether both are sure to have the same entries; to Python, a nested True and 1 are equal."""
    if keys.has_nested_conditions:
        return False
    before, after = old.document.get, new.document.get
    return [*map(before, keys.indexed)] == [*map(after, keys.indexed)]


class Records(ABC):
    """What the operations of a backend are made of, for the store itself and for a transaction on it."""

    def __init__(self, keys: Keys, documents: Documents) -> None:
        self.keys = keys
        self.documents = documents

    @abstractmethod
    async def fetch(self, client: Any, where: Predicate) -> list[Record]:
        """All that match, in no order."""

    @abstractmethod
    def batches(self, client: Any, where: Predicate, size: int) -> AsyncIterator[list[Record]]:
        """All that match, each once, in no order, at most `size` at a time."""

    @abstractmethod
    async def insert(self, client: Any, writes: Sequence[Write], mode: Mode) -> list[Any]:
        """As `write`, of documents that are expected to be absent."""

    @abstractmethod
    async def write(self, client: Any, writes: Sequence[Write], mode: Mode) -> list[Any]:
        """1 for each that was written, else the text that was there instead of the expected one."""

    def overtaken(self, answers: Iterable[Any], meets: Any) -> list[Record]:
        """Of the documents that another writer changed first, those that are still meant."""
        texts = (answer for answer in answers if answer not in (1, ""))
        records = [self.documents.decode(text) for text in texts]
        return [record for record in records if meets(record.document)]


class StoredRecords(Records):
    def __init__(self, keys: Keys, documents: Documents, *, spread: bool) -> None:
        super().__init__(keys, documents)
        self._spread = spread
        """Whether the keys are on several nodes, so that a command takes one."""
        self._is_unique = any(index.unique for index in keys.indexes.values())

    async def fetch(self, client: Any, where: Predicate) -> list[Record]:
        planned = plan(where, self.keys)
        if planned.ids is None and planned.entries is None:
            return [record async for batch in self.batches(client, where, BATCH) for record in batch]
        if planned.ids is not None:
            texts = await self.read(client, planned.ids)
        else:
            texts = await self._lookup(client, planned.entries or (), unique=planned.unique)
        decode = self.documents.decode
        records = [decode(text) for text in texts if text is not None]
        if planned.exact:
            return records
        meets = matcher(where)
        return [record for record in records if meets(record.document)]

    async def batches(self, client: Any, where: Predicate, size: int) -> AsyncIterator[list[Record]]:
        planned = plan(where, self.keys)
        meets = None if planned.exact else matcher(where)
        decode = self.documents.decode
        ready: list[Record] = []
        async for texts in self._texts(client, planned, size):
            for text in texts:
                if text is not None:
                    record = decode(text)
                    if meets is None or meets(record.document):
                        ready.append(record)
            while len(ready) >= size:
                yield ready[:size]
                del ready[:size]
        if ready:
            yield ready

    async def insert(self, client: Any, writes: Sequence[Write], mode: Mode) -> list[Any]:
        lifetime = writes[0].lifetime
        if self.keys.indexes or (len(writes) > 1 and (mode is Mode.EACH or lifetime != "none")):
            return await self.write(client, writes, mode)
        documents = {self.keys.document(each.id): each.new for each in writes}
        if len(documents) < len(writes):
            return [""] * len(writes)
        [(name, text), *others] = documents.items()
        if others:
            words = ("MSETNX", *(word for each in documents.items() for word in each))
        else:
            words = ("SET", name, text, "NX", *(() if lifetime == "none" else ("PX", lifetime)))
        try:
            done = await client.execute_command(*words)
        except ResponseError as error:
            raise translated(self.keys, error) from error
        return [1 if done else ""] * len(writes)

    async def write(self, client: Any, writes: Sequence[Write], mode: Mode) -> list[Any]:
        together = mode is not Mode.EACH or self._is_unique
        size = 1 if self._spread else len(writes) if together else BATCH
        answers: list[Any] = []
        for batch in in_batches(writes, size):
            answers += await write(client, batch, mode)
        return answers

    async def count(self, client: Any, planned: Plan) -> int | None:
        """How many documents an exact plan leads to, without reading them; None for another plan."""
        if not planned.exact:
            return None
        if planned.ids is not None:
            return sum(await self.per_slot(client, "EXISTS", [self.keys.document(each) for each in planned.ids]))
        if planned.entries is not None:
            return len(await self._lookup(client, planned.entries, unique=planned.unique, texts=False))
        return sum([len(names) async for names in self._names(client, f"{self.keys.prefix}*")])

    async def per_slot(self, client: Any, command: str, names: Sequence[str]) -> list[int]:
        size = 1 if self._spread else BATCH
        return await self._each(client.execute_command(command, *batch) for batch in in_batches(names, size))

    async def read(self, client: Any, ids: Sequence[str]) -> list[str | None]:
        """The texts of documents, None for each that there is not."""
        names = [self.keys.document(each) for each in ids]
        if len(names) == 1 or self._spread:
            return await self._each(client.execute_command("GET", name) for name in names)
        replies = await self._each(client.execute_command("MGET", *batch) for batch in in_batches(names, BATCH))
        return [text for reply in replies for text in reply]

    async def owners(self, client: Any, entries: Sequence[str]) -> dict[str, str]:
        """The id of the document that has each unique entry, where there is one."""
        [ids] = await self._each([client.execute_command("MGET", *entries)])
        held = {entry: id_text for entry, id_text in zip(entries, ids, strict=True) if id_text is not None}
        texts = await self.read(client, list(held.values()))
        return {entry: id_text for (entry, id_text), text in zip(held.items(), texts, strict=True) if text is not None}

    async def remove_entries(self, client: Any, index: str) -> None:
        async for names in self._names(client, f"{self.keys.entries_prefix}{index}:*"):
            await self.per_slot(client, "DEL", names)

    async def _texts(self, client: Any, planned: Plan, size: int) -> AsyncIterator[list[str | None]]:
        step = min(size, BATCH)
        if planned.ids is not None:
            for ids in in_batches(planned.ids, step):
                yield await self.read(client, ids)
        elif planned.entries is not None and planned.unique:
            for entries in in_batches(planned.entries, step):
                yield await self._lookup(client, entries, unique=True)
        elif planned.entries is not None:
            seen = Seen()
            for entry in planned.entries:
                async for ids in self._scanned(client.sscan_iter(entry, count=step), seen, step):
                    yield await self.read(client, ids)
        else:
            start = len(self.keys.prefix)
            async for names in self._names(client, f"{self.keys.prefix}*", step):
                yield await self.read(client, [name[start:] for name in names])

    async def _names(self, client: Any, pattern: str, size: int = BATCH) -> AsyncIterator[list[str]]:
        async for names in self._scanned(client.scan_iter(match=pattern, count=1000), Seen(), size):
            yield names

    async def _scanned(self, scan: AsyncIterator[str], seen: "Seen", size: int) -> AsyncIterator[list[str]]:
        names: list[str] = []
        try:
            async for name in scan:
                if seen.add(name):
                    names.append(name)
                if len(names) == size:
                    yield names
                    names = []
        except ResponseError as error:
            raise translated(self.keys, error) from error
        if names:
            yield names

    async def _lookup(
        self, client: Any, entries: Sequence[str], *, unique: bool, texts: bool = True
    ) -> list[str | None]:
        try:
            found: list[str | None] = await run(
                client, LOOKUP, entries, (self.keys.prefix, int(unique), int(texts)), read=True
            )
        except ResponseError as error:
            raise translated(self.keys, error) from error
        return found

    async def _each(self, commands: Iterable[Any]) -> list[Any]:
        pending = list(commands)
        try:
            return [await pending[0]] if len(pending) == 1 else list(await asyncio.gather(*pending))
        except ResponseError as error:
            raise translated(self.keys, error) from error


class Seen:
    """Names that a scan has given, since it may give one again. Eight bytes for each: a digest, in buckets.

    Two names with one digest would be taken for one: among ten million that is a chance of one in 300,000.
    """

    _BUCKETS = 4096

    def __init__(self) -> None:
        self._buckets: list[bytearray | None] = [None] * self._BUCKETS

    def add(self, name: str) -> bool:
        """Whether it is new."""
        number = hash(name)
        digest = number.to_bytes(8, "little", signed=True)
        bucket = self._buckets[number % self._BUCKETS]
        if bucket is None:
            self._buckets[number % self._BUCKETS] = bytearray(digest)
            return True
        at = bucket.find(digest)
        while at >= 0 and at % 8:
            at = bucket.find(digest, at + 1)
        if at >= 0:
            return False
        bucket += digest
        return True


async def write(client: Any, writes: Sequence[Write], mode: Mode) -> list[Any]:
    """Run the script `WRITE`, for documents of any collections."""
    names, arguments = _words(writes, mode)
    try:
        answers = await run(client, WRITE, names, arguments)
    except ResponseError as error:
        raise _refused(error, writes) from error
    return [1] * len(writes) if answers == 1 else list(answers)


def _words(writes: Sequence[Write], mode: Mode) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    """The script's keys and arguments, in tuples as `Write.sets` is."""
    groups: dict[tuple[str, Lifetime], int] = {}
    names: list[str] = []
    items: list[Any] = []
    for each in writes:
        keys = each.keys
        names.append(keys.prefix + each.id)
        counts = ""
        if each.unique or each.sets or each.removed or each.left:
            names += (*each.removed, *each.left, *each.unique, *each.sets)
            counts = f"{len(each.removed)} {len(each.left)} {len(each.unique)} {len(each.sets)}"
        group = groups.setdefault((keys.prefix, each.lifetime), len(groups) + 1)
        items += (group, each.expected, each.new, counts)
    return tuple(names), (mode, len(groups), *(word for group in groups for word in group), *items)


def translated(keys: Keys, error: RedisError) -> AppError:
    return StoreUnavailableError(f"{keys.name}: Redis refused: {error}")


def in_batches(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    if len(items) <= size:
        return (items,) if items else ()
    return (items[at : at + size] for at in range(0, len(items), size))


def _refused(error: ResponseError, writes: Sequence[Write]) -> AppError:
    match str(error).removeprefix("ERR ").split():
        case ["DUPLICATE", document, entry]:
            refused = writes[int(document) - 1]
            index = list(refused.unique.values())[int(entry) - 1]
            return DuplicateRecordError(refused.keys.name, index.fields)
    return translated(writes[0].keys, error)
