"""A connection of psycopg's for code without an event loop, with the deadline and the errors of the pool's own."""

from collections.abc import Generator
from contextlib import suppress
from time import monotonic
from typing import Any, TypeVar

import psycopg
from psycopg.waiting import Ready

from ..core.errors import StoreUnavailableError
from ._postgres_connection import _GRACE, Row, _reason
from ._postgres_logging import without_parts
from ._postgres_options import PostgresOptions

R = TypeVar("R")


class BlockingConnection(psycopg.Connection[Row]):
    """Ends when its server is silent for longer than `timeout` seconds."""

    timeout: float | None = None
    expired = False

    def wait(  # type: ignore[override]  # the parent has a timeout since 3.3, which is none of the connection's
        self, gen: Generator[Any, Any, R], interval: float = 0.1, **kwargs: Any
    ) -> R:
        if self.timeout is not None and not self.expired:
            gen = self._bounded(gen, monotonic() + self.timeout)
        return super().wait(gen, interval, **kwargs)

    def _bounded(self, gen: Generator[Any, Any, R], deadline: float) -> Generator[Any, Any, R]:
        """Look at the clock whenever the driver looks for news and finds none."""
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready == Ready.NONE and monotonic() > deadline:
                    self._give_up()
                wanted = gen.send(ready)
        except StopIteration as end:
            result: R = end.value
            return result

    def _give_up(self) -> None:
        self.expired = True
        with suppress(psycopg.Error):
            self.cancel_safe(timeout=_GRACE * (self.timeout or 0))
        self.pgconn.finish()
        raise psycopg.OperationalError("the server gave no answer in time")


def connect_blocking(options: PostgresOptions) -> BlockingConnection:
    """Connect as the pool does, but not in autocommit. StoreUnavailableError says why not, without a secret."""
    libpq = {"connect_timeout": str(max(2, round(options.connect_timeout))), **options.libpq}
    try:
        with without_parts():
            connection = BlockingConnection.connect(
                psycopg.conninfo.make_conninfo("", **libpq), **{**options.kwargs, "autocommit": False}
            )
    except psycopg.Error as error:
        ours = StoreUnavailableError(f"cannot connect to PostgreSQL at {options.address}: {_reason(error)}")
    else:
        connection.timeout = options.timeout
        if options.statements is not None:
            connection.prepared_max = options.statements
        return connection
    # Not `from` the driver's: its text repeats what it took for user and database, which may be a password.
    raise ours
