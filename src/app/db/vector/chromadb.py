"""Vectors in Chroma: a directory of this process, or a server."""

import re
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from ...core.constants import ConnectionType, VectorDBType
from ...core.errors import ConfigurationError
from .providers.db_provider import VectorDBRegistry
from .store import CollectionVectorStore

if TYPE_CHECKING:
    from .chroma_engine import ChromaVectorEngine

_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,98}[a-zA-Z0-9]")


@VectorDBRegistry.register(VectorDBType.CHROMADB)
class ChromaVectorStore(CollectionVectorStore):
    """A collection is Chroma's of its name. Its index is measured on rows that it has: a search is as wide as it takes
    to find `recall` of what comparing with every row would find; with 1 it compares with every row, which reads them
    all. Chroma indexes all of the metadata by itself, `filterable` or not.
    """

    engine_type = VectorDBType.CHROMADB
    connection_type = ConnectionType.CHROMADB

    @staticmethod
    def check_collection(name: str) -> str:
        if not _NAME.fullmatch(str(name)):
            raise ConfigurationError(
                f"{name!r} is not a collection name: 3 to 100 letters, digits, '.', '_' and '-', the first and the "
                "last a letter or digit; rename it in the configuration"
            )
        return name

    @cached_property
    def engine(self) -> "ChromaVectorEngine":
        return self._engine(self.connection)

    def _engine(self, manager: Any) -> "ChromaVectorEngine":
        from .chroma_engine import ChromaVectorEngine  # noqa: PLC0415 - an optional package

        return ChromaVectorEngine(manager, self.collection, self.distance, self._contract, recall=self.recall)
