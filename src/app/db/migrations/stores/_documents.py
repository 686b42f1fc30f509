"""What the stores of documents have in common: which steps they do."""

from abc import abstractmethod
from collections.abc import Mapping

from ..steps import CreateCollection, CreateIndex, DropCollection, DropIndex, Run, Step
from ..store import Handler, MigrationStore


class DocumentMigrationStore(MigrationStore):
    @property
    def handlers(self) -> Mapping[type[Step], Handler]:
        return {
            CreateCollection: self._create_collection,
            DropCollection: self._drop_collection,
            CreateIndex: self._create_index,
            DropIndex: self._drop_index,
            Run: self._run,
        }

    @abstractmethod
    async def _create_collection(self, step: CreateCollection) -> None: ...

    @abstractmethod
    async def _drop_collection(self, step: DropCollection) -> None: ...

    @abstractmethod
    async def _create_index(self, step: CreateIndex) -> None: ...

    @abstractmethod
    async def _drop_index(self, step: DropIndex) -> None: ...

    async def _run(self, step: Run) -> None:
        await step.work(self.manager)
