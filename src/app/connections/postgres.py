"""PostgreSQL through psycopg 3: a bounded pool per event loop, autocommit, one deadline per exchange."""

import dataclasses
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from ..config.settings import EMBEDDED, PostgresSettings
from ..core.constants import ConnectionType
from ..core.errors import ConfigurationError, MissingDependencyError, StoreUnavailableError
from ._postgres_stats import stats_of
from .base import ConnectionHealth, ConnectionManager

if TYPE_CHECKING:
    from psycopg import AsyncConnection
    from psycopg.abc import QueryNoTemplate
    from psycopg_pool import AsyncConnectionPool

    from ._postgres_exchange import Exchanges
    from ._postgres_options import PostgresOptions

Row = tuple[Any, ...]


class PostgresConnectionManager(ConnectionManager["Exchanges[Any]"]):
    """Opens a pool (psycopg's `AsyncConnectionPool`) on one database. Its connections are in autocommit."""

    connection_type = ConnectionType.POSTGRES
    requires = ("psycopg", "psycopg_pool")

    def __init__(
        self, settings: PostgresSettings | None = None, *, name: str | None = None, data_dir: Path | None = None
    ) -> None:
        super().__init__(settings or PostgresSettings(url=SecretStr(EMBEDDED)), name=name, data_dir=data_dir)
        self.path = self.data_dir / self.settings.path.expanduser()

    @classmethod
    def around(cls, given: "AsyncConnectionPool[Any] | str") -> "PostgresConnectionManager":
        """Return a manager of a pool that the caller opened, and that is never closed here; or of a url."""
        if isinstance(given, str):
            return cls(PostgresSettings(url=SecretStr(given)))
        from ._postgres_adopted import AdoptedPostgres  # noqa: PLC0415 - an optional package

        return AdoptedPostgres(given)

    async def execute_query(
        self, sql: "QueryNoTemplate", parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[Row]:
        """Run one reading statement with bound parameters (`%s`, `%(name)s`).

        It is run a second time when the connection turns out to be dead, so what writes belongs in `execute_command`.
        A statement that does not begin like a reading one is not run twice.
        """
        pool = self.live or await self.connect()
        reads = _READS.match(_text(sql)) is not None
        start = time.monotonic()
        try:
            return await pool.run(sql, parameters, write=not reads)
        except StoreUnavailableError as error:
            if not pool.may_run_again(error):
                raise
            return await pool.run_again(sql, parameters, start + pool.operation_timeout - time.monotonic())

    async def execute_command(
        self, sql: "QueryNoTemplate", parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[Row]:
        """Run one writing statement with bound parameters; return the rows of its RETURNING.

        It is sent once. OutcomeUnknownError when the connection was lost before the answer.
        """
        pool = self.live or await self.connect()
        return await pool.run(sql, parameters, write=True)

    @asynccontextmanager
    async def connection(self) -> "AsyncIterator[AsyncConnection[Row]]":
        """Borrow one connection, for transactions (`async with connection.transaction()`), COPY and cursors.

        Each exchange with the server has the deadline of the settings; `connection.timeout = None` lifts it.
        """
        pool = self.live or await self.connect()
        async with pool.borrow() as connection:
            yield connection

    def get_pool_stats(self) -> dict[str, int]:
        """The running loop's pool; zeros where it is not open.

        At present: connections `max_size`, `size`, `idle`, `in_use`, and callers `waiting`. Since it was opened:
        `requests` for a connection, of which `requests_queued` waited, for `requests_wait_ms` together, and
        `requests_errors` got none; `connections_made` in `connections_made_ms`, `connections_errors` that could not be
        made, `connections_lost`.
        """
        pool = self.live
        return stats_of({"pool_max": self.settings.pool.max_size}, 0) if pool is None else pool.stats()

    @cached_property
    def pooled(self) -> bool:
        """Whether each transaction may be on another session of the server's: nothing may be left in one."""
        return bool(self.settings.pooled) if self._embedded else self.options().pooled

    @cached_property
    def reader(self) -> "PostgresConnectionManager | None":
        """The connection to `reader_url`, with the other settings of this one; it opens on first use, and closes with
        this one.
        """
        url = self.settings.reader_url
        if url is None:
            return None
        settings = self.settings.model_copy(update={"url": url, "reader_url": None})
        reader = PostgresConnectionManager(settings, name=f"{self.name} (reader)", data_dir=self.data_dir)
        reader.closes_with_loop = self.closes_with_loop
        return reader

    async def health(self) -> ConnectionHealth:
        """As for every store, of the writer; `detail` tells of a reader that is down."""
        found = dataclasses.replace(await super().health(), pool=self.get_pool_stats())
        if self.reader is None or not found.healthy:
            return found
        reader = await self.reader.health()
        return found if reader.healthy else dataclasses.replace(found, detail=f"the reader: {reader.detail}")

    def get_connection_info(self) -> dict[str, Any]:
        info = {"type": str(self.connection_type)}
        if self._embedded:
            info |= {"url": EMBEDDED, "path": str(self.path)}
        else:
            info["url"] = self.options().address
        if self.reader is not None:
            info["reader"] = self.reader.get_connection_info()["url"]
        return info

    @property
    def identity(self) -> str:
        """Also the database, and what its tables are looked for by; not the reader, which leads to the same."""
        if self._embedded:
            return repr((EMBEDDED, str(self.path)))
        options = self.options()
        return repr((options.address, *(options.libpq.get(each) for each in ("dbname", "user", "options"))))

    async def disconnect(self) -> None:
        try:
            await super().disconnect()
        finally:
            if self.reader is not None:
                await self.reader.disconnect()

    async def close(self) -> None:
        try:
            await super().close()
        finally:
            if self.reader is not None:
                await self.reader.close()

    async def disconnect_all(self) -> None:
        try:
            await super().disconnect_all()
        finally:
            if self.reader is not None:
                await self.reader.disconnect_all()

    def abandon(self) -> None:
        super().abandon()
        if self.reader is not None:
            self.reader.abandon()

    @property
    def connected(self) -> bool:
        return super().connected or (self.reader is not None and self.reader.connected)

    def options(self, url: str | None = None) -> "PostgresOptions":
        """What its connections are made with, for who makes others like them: an engine of SQLAlchemy's.

        For `embedded` the url is that of a lease of the server (`embedded.postgres.acquire`), which is to be held for
        as long as it is used.
        """
        try:
            from ._postgres_options import options_of  # noqa: PLC0415 - an optional package
        except ModuleNotFoundError as error:
            raise MissingDependencyError.for_extra("psycopg", "postgres") from error
        given = self._url if url is None else url
        if given == EMBEDDED:
            raise ConfigurationError(f"the connection {self.name!r} is embedded: its address is that of a lease")
        return options_of(self.name, self.settings, given)

    @property
    def _url(self) -> str:
        url: SecretStr | None = self.settings.url
        return "" if url is None else url.get_secret_value()

    @property
    def _embedded(self) -> bool:
        return self._url == EMBEDDED

    async def _open(self) -> "Exchanges[Any]":
        try:
            from ._postgres_pool import Pool  # noqa: PLC0415 - an optional package
        except ImportError as error:
            raise MissingDependencyError.for_extra("psycopg", "postgres") from error
        lease = None
        if self._embedded:
            from .embedded import postgres as embedded  # noqa: PLC0415 - an optional package

            lease = await embedded.acquire(self.path)
        try:
            pool = Pool(
                self.name,
                self.options(lease.url if lease else None),
                pre_ping=self.settings.pool.pre_ping,
                slow_query=self.settings.slow_query,
            )
        except BaseException:
            if lease is not None:
                lease.let_go()
            raise
        pool.lease = lease
        try:
            await pool.open()
            await pool.give(await pool.take())
        except BaseException:
            await pool.end()
            raise
        return pool

    async def _close(self, client: "Exchanges[Any]") -> None:
        await client.end()

    def _abandon(self, client: "Exchanges[Any]") -> None:
        client.abandon()

    async def _ping(self, client: "Exchanges[Any]") -> str:  # noqa: ARG002 - a dead connection may make it another one
        [[version]] = await self.execute_query("SHOW server_version")
        return str(version)


_READS = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/|\()*(?:SELECT|VALUES|TABLE|SHOW)\b", re.IGNORECASE | re.DOTALL)


def _text(sql: "QueryNoTemplate") -> str:
    if isinstance(sql, bytes):
        return sql.decode(errors="replace")
    return sql if isinstance(sql, str) else sql.as_string()
