"""Ledger and lock of an engine inside this process, which admits no other: a file beside the engine's own."""

import json
import threading
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from ....connections._json_file import write_json
from ....core.errors import StoreUnavailableError
from ..ledger import LEDGER, Entry
from ..lock import Held
from ._vectors import VectorMigrationStore

R = TypeVar("R")

# By the engine's directory. A process that dies takes it along, and the manager keeps all others out.
_held: Final[dict[str, Held]] = {}
_turn: Final = threading.Lock()


class EmbeddedMigrationStore(VectorMigrationStore):
    """The file is read and written by the engine's thread, which runs only where this process has the directory."""

    path: str

    @abstractmethod
    async def work(self, job: Callable[[Any], R], *, write: bool = False) -> R:
        """Have the engine's thread call `job` with what it owns. Nothing else runs meanwhile."""

    async def prepare(self) -> None:
        await self.work(lambda _: None)

    async def read_lock(self) -> Held | None:
        with _turn:
            return _held.get(self.path)

    async def swap_lock(self, old: Held | None, new: Held | None) -> bool:
        with _turn:
            if _held.get(self.path) != old:
                return False
            if new is None:
                _held.pop(self.path, None)
            else:
                _held[self.path] = new
            return True

    async def read_entries(self) -> list[Entry]:
        documents = await self.work(lambda _: self._read())
        return [Entry.from_document(each) for each in documents.values()]

    async def write_entry(self, entry: Entry) -> None:
        document = entry.to_document()
        await self.work(lambda _: write_json(self._file, {**self._read(), entry.name: document}), write=True)

    async def delete_entry(self, name: str) -> None:
        def delete(_: Any) -> None:
            write_json(self._file, {each: kept for each, kept in self._read().items() if each != name})

        await self.work(delete, write=True)

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            return dict(json.loads(self._file.read_text("utf-8")))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise StoreUnavailableError(f"{self._file} remembers the migrations, and is broken: restore it") from error

    @property
    def _file(self) -> Path:
        return Path(self.path) / f"{LEDGER}.json"
