"""Sessions of the current DataLayer's engines. Nothing commits by itself, but for `transaction`."""

import atexit
import os
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any

from sqlalchemy import orm
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext import asyncio as sa_asyncio
from sqlalchemy.orm.exc import StaleDataError

from .current import engines
from .soft_delete import remove_for_good
from .stale import stale_error, versions_in


class Session(orm.Session):
    """SQLAlchemy's, with `delete(…, hard=True)`, and StaleRecordError for a version that is another by now."""

    def delete(self, instance: object, *, hard: bool = False) -> None:
        """Delete at the next flush. What is deleted softly is marked, unless `hard`; then its cascade goes as well."""
        if hard:
            remove_for_good(self, instance)
        super().delete(instance)

    def flush(self, objects: Any = None) -> None:
        before = versions_in(self)
        try:
            super().flush(objects)
        except StaleDataError as error:
            ours = stale_error(self, before)
            if ours is None:
                raise
            raise ours from error


class AsyncSession(sa_asyncio.AsyncSession):
    """SQLAlchemy's, on a `Session` of ours."""

    sync_session_class = Session

    async def delete(self, instance: object, *, hard: bool = False) -> None:
        """As `Session.delete`; cascades may read."""
        if hard:
            remove_for_good(self.sync_session, instance)
        await super().delete(instance)


def new_session() -> Session:
    """A session of the current layer, to be closed by the caller. What it has loaded stays readable after a commit."""
    session = Session(engines().engine, expire_on_commit=False)
    _given.add(session)
    return session


def new_async_session() -> AsyncSession:
    """As `new_session`, for the running event loop."""
    return AsyncSession(engines().async_engine, expire_on_commit=False)


_given: weakref.WeakSet[Session] = weakref.WeakSet()


@atexit.register
def _end_given() -> None:
    """Close the connections of sessions that nobody closed, before the drivers complain of it."""
    for each in list(_given):
        with suppress(SQLAlchemyError):  # a thread is at work on it
            each.invalidate()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_given.clear)  # those are the parent's to end


class _Scope:
    """One session from entering to leaving, in `with` or in `async with`."""

    def __init__(self, *, commits: bool) -> None:
        self._commits = commits
        self._session: Session | None = None
        self._async_session: AsyncSession | None = None

    async def __aenter__(self) -> AsyncSession:
        self._async_session = new_async_session()
        return self._async_session

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        session, self._async_session = self._async_session, None
        if session is None:
            return
        try:
            if self._commits and exc_type is None:
                await session.commit()
        finally:
            # SQLAlchemy shields it from a cancellation. What is not committed is rolled back.
            await session.__aexit__(exc_type, exc, traceback)

    def __enter__(self) -> Session:
        self._session = new_session()
        return self._session

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        try:
            if self._commits and exc_type is None:
                session.commit()
        finally:
            session.close()


def transaction() -> _Scope:
    """A session in `async with` (or in `with`, where no loop is): commit at the end, roll back on any error.

    An error of the commit itself is raised at the end of the block.
    """
    return _Scope(commits=True)


class Opened(_Scope, AsyncGenerator[AsyncSession, None], Iterator[Session]):
    """What `get_db()` gives: a context, sync and async, and what frameworks take for a generator with one `yield`."""

    def __init__(self) -> None:
        super().__init__(commits=False)
        self._given = False

    def __aiter__(self) -> AsyncIterator[AsyncSession]:
        """For `async for db in get_db()`: one that the loop closes, also where nobody comes to its end."""
        return _as_generator()

    async def __anext__(self) -> AsyncSession:
        return await self.asend(None)

    async def asend(self, value: None) -> AsyncSession:
        del value
        if self._given:
            await self.aclose()
            raise StopAsyncIteration
        self._given = True
        return await self.__aenter__()

    async def athrow(self, typ: Any, val: Any = None, tb: Any = None) -> AsyncSession:
        """Roll back, and raise it."""
        error: BaseException = typ if isinstance(typ, BaseException) else val or typ()
        await self.__aexit__(type(error), error, tb)
        raise error

    async def aclose(self) -> None:
        await self.__aexit__(None, None, None)

    def __iter__(self) -> Iterator[Session]:  # noqa: PYI034 - a generator, which is closed with its loop
        return get_db.sync()

    def __next__(self) -> Session:
        """Give a session that outlives this object. `close()` gives its connection back; so does its collection."""
        if self._given:
            self.__exit__(None, None, None)
            raise StopIteration
        self._given = True
        return self.__enter__()


class GetDB:
    """One name for a session of the current DataLayer, wherever one is wanted.

    `async with get_db() as db`, `with get_db() as db`, `db = next(get_db())`, and in FastAPI `Depends(get_db)` (an
    AsyncSession) or `Depends(get_db.sync)` (a Session, for endpoints that are plain functions). On leaving, with an
    error or without, what was not committed is rolled back.
    """

    def __init__(self) -> None:
        # FastAPI asks `call.__call__` whether it is an asynchronous generator function; calling it asks the class.
        self.__dict__["__call__"] = _as_generator

    def __call__(self) -> Opened:
        return Opened()

    def sync(self) -> Iterator[Session]:
        with Opened() as session:
            yield session


async def _as_generator() -> AsyncGenerator[AsyncSession, None]:
    async with Opened() as session:
        yield session


get_db = GetDB()
