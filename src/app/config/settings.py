"""The shape of the one file: frozen, typed, secrets as SecretStr, unknown keys refused."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    PrivateAttr,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ..core.constants import ConnectionType, Distance, EmbeddingType
from ..core.errors import did_you_mean

EMBEDDED = "embedded"


class Section(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, coerce_numbers_to_str=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        """Refuse what no field is called; what is empty, or a variable that is not set, has the default."""
        if not isinstance(data, Mapping):
            return data
        for key in data:
            if key not in cls.model_fields:
                raise _problem(f"unknown key {shown(key)!r}{did_you_mean(str(key), cls.model_fields)}", key)
        return {key: value for key, value in data.items() if value is not None}


def shown(key: object) -> str:
    """A key as a message may show it: `{url:redis://…}` without the space is one key, its password included."""
    text = str(key)
    name = _NAME.match(text)
    return text if name and name[0] == text else f"{name[0] if name else ''}…"


_NAME = re.compile(r"[\w.-]{1,40}")

# An empty one is none: `${REDIS_URL:-}`.
Secret = Annotated[SecretStr | None, BeforeValidator(lambda value: value or None)]


def _separated(value: Any) -> Any:
    """A variable of the environment is one text."""
    return tuple(each.strip() for each in value.split(",") if each.strip()) if isinstance(value, str) else value


class PoolSettings(Section):
    max_size: PositiveInt = Field(10, description="Connections at the most; a caller beyond that waits.")
    timeout: PositiveFloat = Field(5, description="Seconds that a caller waits for a free connection.")


_SLOW_QUERY = "Seconds from which on a statement is logged as slow, without its parameters; by default none is."


class SQLiteSettings(Section):
    type: Literal[ConnectionType.SQLITE] = ConnectionType.SQLITE
    path: Path = Field(
        Path("app.db"), description="The database file, relative to `data_dir`; `:memory:` keeps nothing."
    )
    timeout: PositiveFloat = Field(5, description="Seconds that a write waits for another process's write.")
    synchronous: Literal["full", "normal"] = Field(
        "full",
        description="`full`: an acknowledged write survives a power failure. `normal`: it survives a killed process.",
    )
    slow_query: PositiveFloat | None = Field(None, description=_SLOW_QUERY)


NO_EMBEDDED_MONGODB = (
    "MongoDB cannot be embedded: the one engine in a wheel that speaks its protocol gave silently wrong answers; use "
    "the url of a server (mongodb://…; config/compose.yaml starts one), or a connection of type sqlite, which serves "
    "the same repositories without a server"
)


class MongoDBSettings(Section):
    type: Literal[ConnectionType.MONGODB] = ConnectionType.MONGODB
    url: Secret = Field(None, description="`mongodb://…` or `mongodb+srv://…`; there is no embedded MongoDB.")
    database: str = Field("app", description="The database that collections live in.")
    pool: PoolSettings = PoolSettings()
    timeout: PositiveFloat = Field(5, description="Seconds for connecting, and for one operation.")

    @field_validator("url")
    @classmethod
    def _refuse_embedded(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and url.get_secret_value() == EMBEDDED:
            raise _problem(NO_EMBEDDED_MONGODB)
        return url


class RedisSettings(Section):
    type: Literal[ConnectionType.REDIS] = ConnectionType.REDIS
    url: Secret = Field(
        None,
        description="`redis://…`, `rediss://…` (TLS, verified), `unix://…` or `embedded`. With a `mode`, the host is a "
        "sentinel or a node of the cluster.",
    )
    path: Path = Field(Path("redis"), description="Where the embedded server keeps its data, relative to `data_dir`.")
    mode: Literal["single", "sentinel", "cluster"] = Field(
        "single", description="One server, the master that sentinels name, or a cluster."
    )
    service: str | None = Field(None, description="The name that the sentinels know the master by.")
    addresses: Annotated[tuple[str, ...], BeforeValidator(_separated)] = Field(
        (), description="`host:port` of further sentinels or nodes of the cluster; also one text with commas."
    )
    sentinel_password: Secret = Field(None, description="The password of the sentinels, where they ask for one.")
    pool: PoolSettings = PoolSettings()
    timeout: PositiveFloat = Field(5, description="Seconds for connecting, and for one operation.")


class PostgresPoolSettings(PoolSettings):
    max_lifetime: PositiveFloat = Field(3600, description="Seconds after which a connection is replaced by a new one.")
    max_idle: PositiveFloat = Field(
        600, description="Seconds after which the pool gives up one of the connections that were not needed meanwhile."
    )
    pre_ping: bool | NonNegativeFloat = Field(
        False,
        description="Ask a connection for a sign of life before it is used: always, or after so many seconds of rest. "
        "For networks that drop connections without a word; a connection that was closed is noticed anyway.",
    )


class PostgresSettings(Section):
    type: Literal[ConnectionType.POSTGRES] = ConnectionType.POSTGRES
    url: Secret = Field(None, description="`postgresql://…` or `embedded`.")
    reader_url: Secret = Field(
        None, description="`postgresql://…` of a replica, for the reads that ask for it (`reads_from: reader`)."
    )
    path: Path = Field(
        Path("postgres"), description="Where the embedded server keeps its data, relative to `data_dir`."
    )
    pooled: bool | None = Field(
        None,
        description="Whether a pooler hands each transaction to another session (pgbouncer in transaction mode); by "
        "default as the url tells.",
    )
    application_name: str | None = Field(
        None, description="What `pg_stat_activity` calls these connections; by default as the url says, or `manystore`."
    )
    options: Mapping[str, str] = Field(
        {}, repr=False, description="Options of libpq's that the url does not name, such as `sslrootcert`. Not shown."
    )
    pool: PostgresPoolSettings = PostgresPoolSettings()
    timeout: PositiveFloat = Field(5, description="Seconds for connecting, and for one operation.")
    connect_timeout: PositiveFloat | None = Field(
        None,
        description="Seconds for connecting, where they are others than `timeout`, such as for a server that sleeps.",
    )
    slow_query: PositiveFloat | None = Field(None, description=_SLOW_QUERY)


_CA_FILE = (
    "A file of certificates (PEM) that an `https://` server's is verified with, instead of the usual authorities."
)


class QdrantSettings(Section):
    type: Literal[ConnectionType.QDRANT] = ConnectionType.QDRANT
    url: Secret = Field(None, description="`embedded`, or the server's `http://…`.")
    api_key: Secret = Field(None, description="The key of a server that asks for one.")
    ca_file: Path | None = Field(None, description=_CA_FILE)
    path: Path = Field(Path("qdrant"), description="Where embedded collections live, relative to `data_dir`.")
    pool: PoolSettings = PoolSettings()
    timeout: PositiveFloat = Field(
        5, description="Seconds for connecting to a server, and for one operation there; embedded it means nothing."
    )


class ChromaDBSettings(Section):
    type: Literal[ConnectionType.CHROMADB] = ConnectionType.CHROMADB
    url: Secret = Field(
        None, description="The server's `http://…`; without it, or as `embedded`, the store is a directory."
    )
    ca_file: Path | None = Field(None, description=_CA_FILE)
    path: Path = Field(Path("chroma"), description="The directory of the embedded store, relative to `data_dir`.")
    pool: PoolSettings = PoolSettings()
    timeout: PositiveFloat = Field(5, description="Seconds for connecting, and for one operation.")


ConnectionSettings = Annotated[
    SQLiteSettings | MongoDBSettings | RedisSettings | PostgresSettings | QdrantSettings | ChromaDBSettings,
    Field(discriminator="type"),
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


class MigrationSettings(Section):
    path: Path = Field(
        Path("migrations"), description="The directory of migrations, with one in it for each connection, by its name."
    )
    wait: PositiveFloat = Field(300, description="Seconds to wait for another process that is migrating.")
    models: Annotated[tuple[str, ...], BeforeValidator(_separated)] = Field(
        (),
        description="Where the application's repositories and entities are: modules (`myapp.models`) or classes "
        "(`myapp.models:Product`), imported before models and tables are compared.",
    )


class RelationalSettings(Section):
    connection: str | None = Field(
        None,
        description="The connection of `app.db.relational`; by default the one to PostgreSQL, else the one to SQLite.",
    )


class VectorStoreSettings(Section):
    connection: str = Field(description="The name of a connection to a vector engine.")
    collection: str | None = Field(None, description="The collection; by default the store's own name.")
    embedding: str = Field("default", description="The name of an entry under `embeddings`.")
    distance: Distance = Field(Distance.COSINE, description="`cosine`, `l2` or `inner_product`.")
    recall: float | None = Field(
        None, gt=0, le=1, description="The share of the true neighbours that a search should find; 1 compares with all."
    )
    filterable: Annotated[tuple[str, ...], BeforeValidator(_separated)] = Field(
        (), description="Paths in the metadata that filters often ask to be equal, to be indexed where the engine can."
    )


class EmbeddingSettings(Section):
    provider: str = Field(description="`wordllama`, or any registered provider.")
    model: str | None = Field(None, description="The provider's model; by default the provider's own choice.")
    api_key: Secret = Field(None, description="The provider's key.")
    base_url: str | None = Field(None, description="Another address of the provider's API.")
    dimension: PositiveInt | None = Field(None, description="Shorten vectors to this length, where the model can.")
    batch_size: PositiveInt | None = Field(None, description="Texts in one call of the model.")
    device: str | None = Field(None, description="`cpu` or `cuda`, for models that run here.")
    timeout: PositiveFloat = Field(30, description="Seconds for one call of a remote model.")
    options: Mapping[str, str] = Field(
        {}, repr=False, description="Anything else, handed to a provider of your own. Not shown, as it may hold a key."
    )


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
    migrations: MigrationSettings = MigrationSettings()
    relational: RelationalSettings = RelationalSettings()
    vector_stores: Mapping[str, VectorStoreSettings] = {
        "documents": VectorStoreSettings(connection="qdrant", collection="documents"),
    }
    embeddings: Mapping[str, EmbeddingSettings] = {"default": EmbeddingSettings(provider=EmbeddingType.WORDLLAMA)}

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
                raise _problem("the cache's connection must be one to Redis", "cache", "connection")
        if self.relational.connection is not None:
            _require(self.relational.connection, self.connections, "connection", "relational", "connection")
            if self.connections[self.relational.connection].type not in _RELATIONAL:
                raise _problem("the connection must be one to PostgreSQL or SQLite", "relational", "connection")
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
                raise _problem(f"{key!r} is for {' or '.join(providers)}, and neither is given", "embeddings", key)
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


def _problem(message: str, *path: str) -> PydanticCustomError:
    """An error whose message is complete; `path` leads from the section at hand to the key that is wrong."""
    return PydanticCustomError("settings", "{message}", {"message": message, "path": path})


def _typed(name: str, section: Any, key: str, known: Iterable[str]) -> Any:
    """Let the name stand for the type where it is one."""
    if section is None:
        section = {}
    if not isinstance(section, Mapping) or section.get(key) is not None:
        return section
    return {**section, key: str(name)} if name in list(known) else section


def _require_type(name: str, section: Any) -> None:
    if not isinstance(section, Mapping):
        raise _problem(f"the connection {shown(name)!r} must be a mapping of settings", "connections", name)
    kind = section.get("type")
    listed = ", ".join(ConnectionType)
    if kind is None:
        near = did_you_mean(name, ConnectionType)
        raise _problem(f"the connection {shown(name)!r} needs a type{near}: {listed}", "connections", name)
    if kind not in list(ConnectionType):
        near = did_you_mean(str(kind), ConnectionType)
        raise _problem(f"unknown type {shown(kind)!r}{near}; there is: {listed}", "connections", name, "type")


def _require(name: str, known: Mapping[str, object], kind: str, *path: str) -> None:
    if name not in known:
        listed = ", ".join(sorted(map(shown, known))) or "none"
        raise _problem(f"no {kind} named {shown(name)!r}{did_you_mean(name, known)}; there is: {listed}", *path)
