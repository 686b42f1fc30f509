"""The sections of the one file that describe connections, and what every section has in common."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ..core.constants import ConnectionType
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
                raise problem(f"unknown key {shown(key)!r}{did_you_mean(str(key), cls.model_fields)}", key)
        return {key: value for key, value in data.items() if value is not None}


def shown(key: object) -> str:
    """A key as a message may show it: `{url:redis://…}` without the space is one key, its password included."""
    text = str(key)
    name = _NAME.match(text)
    return text if name and name[0] == text else f"{name[0] if name else ''}…"


_NAME = re.compile(r"[\w.-]{1,40}")

# An empty one is none: `${REDIS_URL:-}`.
Secret = Annotated[SecretStr | None, BeforeValidator(lambda value: value or None)]
Key = Annotated[Secret, AfterValidator(lambda key: key and SecretStr(sendable(key.get_secret_value())))]


def sendable(key: str) -> str:
    """What goes in a header. Clients that cannot send it quote it in their errors."""
    if key.isascii() and key.isprintable():
        return key
    raise PydanticCustomError("header", "it has a line break in it, or a letter that no header can have")


def separated(value: Any) -> Any:
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
            raise problem(NO_EMBEDDED_MONGODB)
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
    addresses: Annotated[tuple[str, ...], BeforeValidator(separated)] = Field(
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
    api_key: Key = Field(None, description="The key of a server that asks for one.")
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


def problem(message: str, *path: str) -> PydanticCustomError:
    """An error whose message is complete; `path` leads from the section at hand to the key that is wrong."""
    return PydanticCustomError("settings", "{message}", {"message": message, "path": path})
