"""A connection to SQLite whose statements are timed, made only where `slow_query` is set."""

import sqlite3
from time import monotonic
from typing import Any

from ._slow_queries import SlowQueries


def watched(watch: SlowQueries) -> type[sqlite3.Connection]:
    """A class of connections; `sqlite3.connect(…, factory=watched(watch))`."""

    class Cursor(_Cursor):
        pass

    Cursor.watch = watch

    class Connection(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            return self.cursor(Cursor).execute(sql, parameters)

        def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor:
            return self.cursor(Cursor).executemany(sql, parameters)

    return Connection


class _Cursor(sqlite3.Cursor):
    """SQLite does some of the work of a statement when its rows are fetched, so that time counts as well."""

    watch: SlowQueries
    _statement = ""
    _spent = 0.0

    def execute(self, sql: str, parameters: Any = (), /) -> "_Cursor":
        self._statement, self._spent = sql, 0.0
        return self._timed(super().execute, sql, parameters)  # type: ignore[no-any-return]

    def executemany(self, sql: str, parameters: Any, /) -> "_Cursor":
        self._statement, self._spent = sql, 0.0
        return self._timed(super().executemany, sql, parameters)  # type: ignore[no-any-return]

    def fetchall(self) -> list[Any]:
        return self._timed(super().fetchall)  # type: ignore[no-any-return]

    def fetchone(self) -> Any:
        return self._timed(super().fetchone)

    def _timed(self, work: Any, *args: Any) -> Any:
        before, start = self._spent, monotonic()
        try:
            return work(*args)
        finally:
            self._spent += monotonic() - start
            if before < self.watch.threshold:  # else it is in the log
                self.watch.note(self._statement, self._spent)
