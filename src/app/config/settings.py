"""The shape of the one file: frozen, typed, secrets as SecretStr, unknown keys refused."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, PrivateAttr, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from ..core.constants import ConnectionType, Distance, EmbeddingType
from ..core.errors import did_you_mean

EMBEDDED = "embedded"


class Section(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, coerce_numbers_to_str=True, use_enum_values=False
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            for key in data:
                if key not in cls.model_fields:
                    raise _problem(f"unknown key {key!r}{did_you_mean(str(key), cls.model_fields)}", key)
        return data


class PoolSettings(Section):
    max_size: PositiveInt = Field(10, description="Connections at the most; a caller beyond that waits.")
    timeout: PositiveFloat = Field(5, description="Seconds that a caller waits for a free connection.")


class SQLiteSettings(Section):
    type: Literal[ConnectionType.SQLITE] = ConnectionType.SQLITE
    path: Path = Field(Path("app.db"), description="The database file, relative to `data_dir`; `:memory:` keeps nothing.")
    timeout: PositiveFloat = Field(5, description="Seconds that a write waits for another process's write.")
    synchronous: Literal["full", "normal"] = Field(
        "full",
        description="`full`: an acknowledged write survives a power failure. `normal`: it survives a killed process.",
    )


class MongoDBSettings(Section):
    type: Literal[ConnectionType.MONGODB] = ConnectionType.MONGODB
    url: SecretStr | None = Field(None, description="`mongodb://…` or `mongodb+srv://…`.")
    database: str = Field("app", description="The database that collections live in.")
    pool: PoolSettings = PoolSettings()
    timeout: PositiveFloat = Field(5, description="Seconds for connecting, and for one operation.")


class RedisSettings(Section):
    type: Literal[ConnectionType.REDIS] = ConnectionType.REDIS
    url: SecretStr | None = Field(None, description="`redis://…`, `rediss://…` or `embedded`.")
    pool: PoolSettings = PoolSettings()
    timeout: PositiveFloat = Field(5, description="Seconds for connecting, and for one operation.")


class PostgresSettings(Section):
    type: Literal[ConnectionType.POSTGRES] = ConnectionType.POSTGRES
    url: SecretStr | None = Field(None, description="`postgresql://…` or `embedded`.")
    pool: PoolSettings = PoolSettings()
    timeout: PositiveFloat = Field(5, description="Seconds for connecting, and for one operation.")


class QdrantSettings(Section):
    type: Literal[ConnectionType.QDRANT] = ConnectionType.QDRANT
    url: SecretStr | None = Field(None, description="`embedded`, or the server's `http://…`.")
    api_key: SecretStr | None = Field(None, description="The key of a server that asks for one.")
    path: Path = Field(Path("qdrant"), description="Where embedded collections live, relative to `data_dir`.")
    timeout: PositiveFloat = Field(5, description="Seconds for connecting, and for one operation.")


class ChromaDBSettings(Section):
    type: Literal[ConnectionType.CHROMADB] = ConnectionType.CHROMADB
    url: SecretStr | None = Field(None, description="The server's `http://…`; without it the store is a directory.")
    path: Path = Field(Path("chroma"), description="The directory of the embedded store, relative to `data_dir`.")
    timeout: PositiveFloat = Field(5, description="Seconds for connecting, and for one operation.")


ConnectionSettings = Annotated[
    SQLiteSettings | MongoDBSettings | RedisSettings | PostgresSettings | QdrantSettings | ChromaDBSettings,
    Field(discriminator="type"),
]


class RepositorySettings(Section):
    connection: str = Field(description="The name of a connection.")
    collection: str | None = Field(None, description="The table or collection; by default the repository's own.")
    ttl: PositiveInt | None = Field(None, description="Seconds that a record lives; by default the repository's own.")


class VectorStoreSettings(Section):
    connection: str = Field(description="The name of a connection to a vector engine.")
    collection: str | None = Field(None, description="The collection; by default the store's own name.")
    embedding: str = Field("default", description="The name of an entry under `embeddings`.")
    distance: Distance = Field(Distance.COSINE, description="`cosine`, `l2` or `inner_product`.")


class EmbeddingSettings(Section):
    provider: str = Field(description="`wordllama`, or any registered provider.")
    model: str | None = Field(None, description="The provider's model; by default the provider's own choice.")
    api_key: SecretStr | None = Field(None, description="The provider's key.")
    base_url: str | None = Field(None, description="Another address of the provider's API.")
    dimension: PositiveInt | None = Field(None, description="Shorten vectors to this length, where the model can.")
    batch_size: PositiveInt | None = Field(None, description="Texts in one call of the model.")
    device: str | None = Field(None, description="`cpu` or `cuda`, for models that run here.")
    timeout: PositiveFloat = Field(30, description="Seconds for one call of a remote model.")
    options: Mapping[str, str] = Field({}, description="Anything else, handed to a provider of your own.")


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
                if isinstance(section, Mapping):
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
        return data

    @model_validator(mode="after")
    def _refuse_unknown_references(self) -> "Settings":
        for name, repository in self.repositories.items():
            _require(repository.connection, self.connections, "connection", "repositories", name, "connection")
        for name, store in self.vector_stores.items():
            _require(store.connection, self.connections, "connection", "vector_stores", name, "connection")
            _require(store.embedding, self.embeddings, "embedding", "vector_stores", name, "embedding")
        return self

    @classmethod
    def _expand_flat_embeddings(cls, section: Mapping[str, Any]) -> dict[str, Any]:
        entries: dict[str, Any] = {k: v for k, v in section.items() if k not in cls._FLAT_EMBEDDING_KEYS}
        if len(entries) == len(section):
            return entries
        providers = {
            provider
            for key in section
            if key.partition("_")[0] in (names := cls._FLAT_EMBEDDING_KEYS.get(key, ((), ""))[0])
            for provider in names
        }
        for key, value in section.items():
            names, setting = cls._FLAT_EMBEDDING_KEYS.get(key, ((), ""))
            for provider in names:
                if provider in providers:
                    entries[provider] = {**entries.get(provider, {"provider": provider}), setting: value}
        entries.setdefault("default", {"provider": EmbeddingType.WORDLLAMA})
        return entries

    def remember_unset(self, variables: Mapping[str, str]) -> None:
        self._unset.update(variables)

    def unset_variable(self, *path: str) -> str | None:
        """The environment variable for want of which the setting at this path is empty."""
        return self._unset.get(".".join(path))


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


def _require_type(name: str, section: Mapping[str, Any]) -> None:
    kind = section.get("type")
    if kind is None:
        raise _problem(
            f"the connection {name!r} needs a type{did_you_mean(name, ConnectionType)}: {', '.join(ConnectionType)}",
            *("connections", name),
        )
    if kind not in list(ConnectionType):
        raise _problem(
            f"unknown type {kind!r}{did_you_mean(str(kind), ConnectionType)}; there is: {', '.join(ConnectionType)}",
            *("connections", name, "type"),
        )


def _require(name: str, known: Mapping[str, object], kind: str, *path: str) -> None:
    if name not in known:
        listed = ", ".join(sorted(known)) or "none"
        raise _problem(f"no {kind} named {name!r}{did_you_mean(name, known)}; there is: {listed}", *path)
