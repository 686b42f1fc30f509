"""A transaction on Redis: writes are kept here until one script applies them, if nothing has changed meanwhile."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from redis.crc import key_slot

from ...connections.base import ConnectionManager
from ...core.errors import DuplicateRecordError, TransactionError, UnsupportedOperationError
from ..query.predicates import Predicate
from ._redis_documents import Record
from ._redis_keys import Keys
from ._redis_query import matcher, plan
from ._redis_records import Mode, Records, StoredRecords, Write, in_batches, write
from .base import Transaction


@dataclass(slots=True)
class _Touched:
    """A document that was read or written. Texts are '' for none."""

    found: str
    text: str
    write: Write | None = None

    def absorb(self, later: Write) -> None:
        """Take one more write, so that this is what both together do."""
        self.text = later.new
        if self.write is None:
            self.write = replace(later, expected=self.found)
            return
        before = self.write
        gone = {*later.removed, *later.left}
        removed = dict.fromkeys((*before.removed, *later.removed))
        left = dict.fromkeys((*before.left, *later.left))
        self.write = replace(
            later,
            expected=self.found,
            lifetime=later.lifetime if later.lifetime != "" or not later.new else before.lifetime,
            removed=[each for each in removed if each not in later.unique],
            left=[each for each in left if each not in later.sets],
            unique={**{key: index for key, index in before.unique.items() if key not in gone}, **later.unique},
            sets=tuple(dict.fromkeys((*(each for each in before.sets if each not in gone), *later.sets))),
        )


class RedisTransaction(Transaction):
    """Nothing is locked, and nothing is sent before `commit`.

    `commit` is one script. It applies all writes if every document that was read or written is still as it was found,
    an absent one still absent; else it raises TransactionError, nothing is changed, and the caller runs the transaction
    again. Documents that others added meanwhile, and that a filter would have found, are not noticed (phantoms); a
    unique value is safe from them. A time to live counts from the commit. Without writes nothing is checked.

    What was read is remembered until the end, a stream's documents too. There are no savepoints. In a cluster all
    documents have to be on one slot, as those of one collection with indexes are.
    """

    def __init__(self, client: Any, *, in_cluster: bool) -> None:
        self._client = client
        self._in_cluster = in_cluster
        self._slot: int | None = None
        self._ended = ""
        self._collections: dict[str, tuple[Keys, dict[str, _Touched]]] = {}

    async def commit(self) -> None:
        self.require_open()
        self._ended = "was committed"
        touched = [
            each.write or Write(keys, id_text, expected=each.found, new=each.found)
            for keys, documents in self._collections.values()
            for id_text, each in documents.items()
        ]
        if not any(each.write for _, documents in self._collections.values() for each in documents.values()):
            return
        answers = await write(self._client, touched, Mode.TOGETHER)
        if answers != [1] * len(touched):
            names = sorted({each.keys.name for each, answer in zip(touched, answers, strict=True) if answer != 1})
            raise TransactionError(
                f"{', '.join(names) or 'a record'}: changed by others since the transaction read it; nothing was "
                "written: run the transaction again"
            )

    async def rollback(self) -> None:
        self._ended = self._ended or "was rolled back"
        self._collections.clear()

    def require_open(self) -> None:
        if self._ended:
            raise TransactionError(f"this transaction {self._ended}: begin another")

    def documents_of(self, keys: Keys) -> dict[str, _Touched]:
        """What was touched of a collection, by the text of the id."""
        self.require_open()
        return self._collections.setdefault(keys.prefix, (keys, {}))[1]

    def require_slot(self, keys: Keys, id_text: str) -> None:
        """UnsupportedOperationError for a document that no script can reach together with the others."""
        if not self._in_cluster:
            return
        slot = key_slot(keys.document(id_text).encode())
        if self._slot not in (None, slot):
            raise UnsupportedOperationError(
                f"{keys.name}: a transaction in a cluster is of documents on one slot; those of one collection with "
                "indexes are, and no others"
            )
        self._slot = slot


class BufferedRecords(Records):
    """The documents of a collection as a transaction sees them: the store's, and over them its own writes."""

    def __init__(self, stored: StoredRecords, transaction: RedisTransaction) -> None:
        super().__init__(stored.keys, stored.documents)
        self._stored = stored
        self._transaction = transaction

    async def fetch(self, client: Any, where: Predicate) -> list[Record]:
        touched = self._touched
        planned = plan(where, self.keys)
        meets = matcher(where)
        if planned.ids is not None:
            await self._read(client, planned.ids)
            records = [self._decoded(touched[each]) for each in planned.ids if touched[each].text]
            return [record for record in records if meets(record.document)]
        found = await self._stored.fetch(client, where)
        own = [self._decoded(each) for each in touched.values() if each.text]
        fresh = [record for record in found if record.id not in touched]
        for record in fresh:
            self._remember(record.id, record.text)
        return [*fresh, *(record for record in own if meets(record.document))]

    async def batches(self, client: Any, where: Predicate, size: int) -> AsyncIterator[list[Record]]:
        for batch in in_batches(await self.fetch(client, where), size):
            yield list(batch)

    async def insert(self, client: Any, writes: Sequence[Write], mode: Mode) -> list[Any]:
        return await self.write(client, writes, mode)

    async def write(self, client: Any, writes: Sequence[Write], mode: Mode) -> list[Any]:
        """As the script does it, on what the transaction sees. A unique value that is taken is told here already."""
        touched = self._touched
        await self._read(client, [each.id for each in writes])
        texts: dict[str, str] = {}
        answers: list[Any] = []
        for each in writes:
            present = texts.get(each.id, touched[each.id].text)
            answers.append(1 if present == each.expected else present)
            texts[each.id] = each.new
        if mode is not Mode.EACH and answers != [1] * len(writes):
            return answers
        accepted = [each for each, answer in zip(writes, answers, strict=True) if answer == 1]
        await self._refuse_taken(client, accepted)
        for each in accepted:
            touched[each.id].absorb(each)
        return answers

    @property
    def _touched(self) -> dict[str, _Touched]:
        return self._transaction.documents_of(self.keys)

    def _decoded(self, touched: _Touched) -> Record:
        return self.documents.decode(touched.text)

    def _remember(self, id_text: str, text: str) -> None:
        self._transaction.require_slot(self.keys, id_text)
        self._touched[id_text] = _Touched(text, text)

    async def _read(self, client: Any, ids: Sequence[str]) -> None:
        """Have these among the touched: a document is read once, and stays as it was found."""
        missing = [each for each in dict.fromkeys(ids) if each not in self._touched]
        for id_text in missing:
            self._transaction.require_slot(self.keys, id_text)
        if missing:
            for id_text, text in zip(missing, await self._stored.read(client, missing), strict=True):
                self._remember(id_text, text or "")

    async def _refuse_taken(self, client: Any, writes: Sequence[Write]) -> None:
        """DuplicateRecordError for a unique value that another document has here, or in the store."""
        entries = list(dict.fromkeys(entry for each in writes for entry in each.unique))
        if not entries:
            return
        owners = await self._stored.owners(client, entries)
        own = [(id_text, each.write) for id_text, each in self._touched.items() if each.write is not None]
        for id_text, made in own:
            for entry in made.removed:
                if owners.get(entry) == id_text:
                    del owners[entry]
        for id_text, made in own:
            owners |= dict.fromkeys(made.unique, id_text)
        for each in writes:
            for entry, index in each.unique.items():
                if owners.get(entry, each.id) != each.id:
                    raise DuplicateRecordError(self.keys.name, index.fields)
                owners[entry] = each.id
            for entry in each.removed:
                if owners.get(entry) == each.id:
                    del owners[entry]


async def begin(manager: ConnectionManager[Any]) -> RedisTransaction:
    client = manager.live or await manager.connect()
    return RedisTransaction(client, in_cluster=bool(getattr(manager, "is_cluster", False)))
