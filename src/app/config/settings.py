"""The shape of the one file: frozen, typed, secrets as SecretStr, unknown keys refused."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, PrivateAttr, SecretStr, model_validator

from ..core.constants import ConnectionType, Distance, EmbeddingType
from ..core.errors import did_you_mean
from .connections import (
    EMBEDDED,
    ChromaDBSettings,
    ConnectionSettings,
    Key,
    MongoDBSettings,
    PoolSettings,
    PostgresPoolSettings,
    PostgresSettings,
    QdrantSettings,
    RedisSettings,
    Section,
    SQLiteSettings,
    problem,
    separated,
    shown,
)

__all__ = [
    "EMBEDDED",
    "CacheSettings",
    "ChromaDBSettings",
    "ConnectionSettings",
    "EmbeddingSettings",
    "MongoDBSettings",
    "PoolSettings",
    "PostgresPoolSettings",
    "PostgresSettings",
    "QdrantSettings",
    "RedisSettings",
    "RepositoryCacheSettings",
    "RepositorySettings",
    "SQLiteSettings",
    "Section",
    "Settings",
    "VectorStoreSettings",
    "shown",
]


class RepositoryCacheSettings(Section):
    ttl: PositiveFloat = Field(description="Seconds that a record is kept, give or take a tenth.")
    absent_ttl: PositiveFloat = Field(5, description="Seconds that it is remembered that there is none.")


class CacheSettings(Section):
    connection: str | None = Field(
        None, description="The name of a connection to Redis, shared by all processes; without it each has its own."
    )
    max_entries: PositiveInt = Field(10_000, description="Answers that a process keeps at the most, without Redis.")
    prefix: str = Field("cache:", description="What the keys in Redis begin with.")


class RepositorySettings(Section):
    connection: str = Field(description="The name of a connection.")
    collection: str | None = Field(None, description="The table or collection; by default the repository's own.")
    reads_from: Literal["writer", "reader"] | None = Field(
        None,
        description="`reader`: its reads go to the `reader_url` of its connection, and may be older than the last "
        "write; writes, and all in a transaction, never do. By default `writer`.",
    )
    ttl: PositiveInt | None = Field(None, description="Seconds that a record lives; by default the repository's own.")
    keeps_history: bool | None = Field(
        None, description="Whether every state of a record is kept; by default as the repository says."
    )
    audited: bool | None = Field(
        None, description="Whether it is kept who wrote what; by default as the repository says."
    )
    cache: RepositoryCacheSettings | None = Field(
        None, description="Keep what is read by id or by a unique field; by default as the repository's class says."
    )


class RelationalSettings(Section):
    connection: str | None = Field(
        None,
        description="The connection of `app.db.relational`; by default the one to PostgreSQL, else the one to SQLite.",
    )


class MigrationSettings(Section):
    path: Path = Field(
        Path("migrations"), description="The directory of migrations, with one in it for each connection, by its name."
    )
    wait: PositiveFloat = Field(300, description="Seconds to wait for another process that is migrating.")
    models: Annotated[tuple[str, ...], BeforeValidator(separated)] = Field(
        (),
        description="Where the application's repositories and entities are: modules (`myapp.models`) or classes "
        "(`myapp.models:Product`), imported before models and tables are compared.",
    )


class VectorStoreSettings(Section):
    connection: str = Field(description="The name of a connection to a vector engine.")
    collection: str | None = Field(None, description="The collection; by default the store's own name.")
    embedding: str = Field("default", description="The name of an entry under `embeddings`.")
    distance: Distance = Field(Distance.COSINE, description="`cosine`, `l2` or `inner_product`.")
    recall: float | None = Field(
        None, gt=0, le=1, description="The share of the true neighbours that a search should find; 1 compares with all."
    )
    filterable: Annotated[tuple[str, ...], BeforeValidator(separated)] = Field(
        (), description="Paths in the metadata that filters often ask to be equal, to be indexed where the engine can."
    )


class EmbeddingSettings(Section):
    provider: str = Field(
        description="`wordllama`, `openai`, `cohere`, `huggingface`, `instructor`, your own, or `provider:model` of "
        "LangChain's."
    )
    model: str | None = Field(None, description="The provider's model; by default the provider's own choice.")
    api_key: Key = Field(
        None, description="The provider's key; by default its own variable (`OPENAI_API_KEY`, `COHERE_API_KEY`)."
    )
    base_url: str | None = Field(None, description="Another address of the provider's API.")
    dimension: PositiveInt | None = Field(None, description="Shorten vectors to this length, where the model can.")
    batch_size: PositiveInt | None = Field(
        None, description="Texts in one request, or one call of the model; by default as many as the provider allows."
    )
    concurrency: PositiveInt = Field(4, description="Requests to a remote model at once, in one process.")
    device: str | None = Field(None, description="`cpu` or `cuda`, for models that run here.")
    timeout: PositiveFloat = Field(30, description="Seconds that a remote model may be silent.")
    document_prompt: str | None = Field(
        None,
        description="Stands before a document (`huggingface`, `instructor`); else the model's own.",
    )
    query_prompt: str | None = Field(None, description="The same before a query.")
    cache: bool = Field(False, description="Keep vectors, where `embedding_cache` says, and embed a text once.")
    options: Mapping[str, str] = Field(
        {}, repr=False, description="Anything else, handed to the provider. Not shown, as it may hold a key."
    )


class EmbeddingCacheSettings(Section):
    connection: str | None = Field(
        None, description="The name of a connection to Redis or SQLite; without it each process keeps its own."
    )
    max_entries: PositiveInt = Field(
        20_000, description="Vectors that are kept at the most; one of 1,536 dimensions takes 6 kB."
    )
    prefix: str = Field("embeddings", description="What the keys in Redis begin with.")


_RELATIONAL = frozenset({ConnectionType.POSTGRES, ConnectionType.SQLITE})


class Settings(Section):
    """Everything a DataLayer is built from. A section that is left out has the embedded default."""

    data_dir: Path = Field(
        Path(".manystore"), description="Where embedded engines keep their files, relative to the working directory."
    )
    connections: Mapping[str, ConnectionSettings] = {
        "sqlite": SQLiteSettings(),
        "qdrant": QdrantSettings(url=SecretStr(EMBEDDED)),
    }
    repositories: Mapping[str, RepositorySettings] = {
        "user": RepositorySettings(connection="sqlite"),
        "signup_session": RepositorySettings(connection="sqlite"),
    }
    cache: CacheSettings = CacheSettings()
    relational: RelationalSettings = RelationalSettings()
    migrations: MigrationSettings = MigrationSettings()
    vector_stores: Mapping[str, VectorStoreSettings] = {
        "documents": VectorStoreSettings(connection="qdrant", collection="documents"),
    }
    embeddings: Mapping[str, EmbeddingSettings] = {"default": EmbeddingSettings(provider=EmbeddingType.WORDLLAMA)}
    embedding_cache: EmbeddingCacheSettings = EmbeddingCacheSettings()

    _unset: dict[str, str] = PrivateAttr(default_factory=dict)

    # The specification's flat keys under `embeddings`: key → (providers, their setting).
    _FLAT_EMBEDDING_KEYS: ClassVar[Mapping[str, tuple[tuple[str, ...], str]]] = {
        "openai_api_key": (("openai",), "api_key"),
        "openai_model": (("openai",), "model"),
        "huggingface_model": (("huggingface",), "model"),
        "instructor_model": (("instructor",), "model"),
        "cohere_api_key": (("cohere",), "api_key"),
        "device": (("huggingface", "instructor"), "device"),
        "batch_size": (("huggingface", "instructor"), "batch_size"),
    }

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, data: Any) -> Any:
        """Fill in what the file may leave out: the type of a connection named like one, and dependent defaults."""
        if not isinstance(data, Mapping):
            return data
        data = {key: value for key, value in data.items() if value is not None}
        connections = data.get("connections")
        if isinstance(connections, Mapping):
            data["connections"] = {
                name: _typed(name, section, "type", ConnectionType) for name, section in connections.items()
            }
            for name, section in data["connections"].items():
                _require_type(name, section)
            # Defaults that lean on a connection which is not there are no defaults.
            data.setdefault("repositories", {})
            if "qdrant" not in connections:
                data.setdefault("vector_stores", {})
        embeddings = data.get("embeddings")
        if isinstance(embeddings, Mapping):
            data["embeddings"] = {
                name: _typed(name, section, "provider", EmbeddingType)
                for name, section in cls._expand_flat_embeddings(embeddings).items()
            }
            if "default" not in data["embeddings"]:
                data.setdefault("vector_stores", {})
        return data

    @model_validator(mode="after")
    def _refuse_unknown_references(self) -> "Settings":
        for name, repository in self.repositories.items():
            _require(repository.connection, self.connections, "connection", "repositories", name, "connection")
        if self.cache.connection is not None:
            _require(self.cache.connection, self.connections, "connection", "cache", "connection")
            if self.connections[self.cache.connection].type != ConnectionType.REDIS:
                raise problem("the cache's connection must be one to Redis", "cache", "connection")
        if self.relational.connection is not None:
            _require(self.relational.connection, self.connections, "connection", "relational", "connection")
            if self.connections[self.relational.connection].type not in _RELATIONAL:
                raise problem("the connection must be one to PostgreSQL or SQLite", "relational", "connection")
        if self.embedding_cache.connection is not None:
            _require(self.embedding_cache.connection, self.connections, "connection", "embedding_cache", "connection")
            kind = self.connections[self.embedding_cache.connection].type
            if kind not in (ConnectionType.REDIS, ConnectionType.SQLITE):
                raise problem("the cache's connection must be one to Redis or SQLite", "embedding_cache", "connection")
        for name, store in self.vector_stores.items():
            _require(store.connection, self.connections, "connection", "vector_stores", name, "connection")
            _require(store.embedding, self.embeddings, "embedding", "vector_stores", name, "embedding")
        return self

    @classmethod
    def _expand_flat_embeddings(cls, section: Mapping[str, Any]) -> dict[str, Any]:
        entries: dict[str, Any] = {k: v for k, v in section.items() if k not in cls._FLAT_EMBEDDING_KEYS}
        flat = {key: cls._FLAT_EMBEDDING_KEYS[key] for key in section if key in cls._FLAT_EMBEDDING_KEYS}
        if not flat:
            return entries
        # `device` and `batch_size` alone do not ask for a provider; its own key or an entry does.
        asked = {*entries, *(providers[0] for providers, _ in flat.values() if len(providers) == 1)}
        for key, (providers, setting) in flat.items():
            used = [provider for provider in providers if provider in asked]
            if not used:
                raise problem(f"{key!r} is for {' or '.join(providers)}, and neither is given", "embeddings", key)
            for provider in used:
                entry = entries.get(provider) or {}
                if isinstance(entry, Mapping):
                    entries[provider] = {setting: section[key], **entry}
        entries.setdefault("default", {"provider": EmbeddingType.WORDLLAMA})
        return entries

    def remember_unset(self, variables: Mapping[str, str]) -> None:
        self._unset.update(variables)

    @property
    def unset(self) -> Mapping[str, str]:
        """Dotted path of a setting → the variable that is not set, so that the setting has its default."""
        return self._unset

    def unset_variable(self, *path: str) -> str | None:
        """The environment variable for want of which the setting at this path is empty."""
        found = self._unset.get(".".join(path))
        if found is None and path[:1] == ("embeddings",):
            for key, (providers, setting) in self._FLAT_EMBEDDING_KEYS.items():
                if path[1:] in [(provider, setting) for provider in providers]:
                    found = found or self._unset.get(f"embeddings.{key}")
        return found


def _typed(name: str, section: Any, key: str, known: Iterable[str]) -> Any:
    """Let the name stand for the type where it is one."""
    if section is None:
        section = {}
    if not isinstance(section, Mapping) or section.get(key) is not None:
        return section
    return {**section, key: str(name)} if name in list(known) else section


def _require_type(name: str, section: Any) -> None:
    if not isinstance(section, Mapping):
        raise problem(f"the connection {shown(name)!r} must be a mapping of settings", "connections", name)
    kind = section.get("type")
    listed = ", ".join(ConnectionType)
    if kind is None:
        near = did_you_mean(name, ConnectionType)
        raise problem(f"the connection {shown(name)!r} needs a type{near}: {listed}", "connections", name)
    if kind not in list(ConnectionType):
        near = did_you_mean(str(kind), ConnectionType)
        raise problem(f"unknown type {shown(kind)!r}{near}; there is: {listed}", "connections", name, "type")


def _require(name: str, known: Mapping[str, object], kind: str, *path: str) -> None:
    if name not in known:
        listed = ", ".join(sorted(map(shown, known))) or "none"
        raise problem(f"no {kind} named {shown(name)!r}{did_you_mean(name, known)}; there is: {listed}", *path)
