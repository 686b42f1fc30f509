"""`engine` and `async_engine`: names for the engines of whichever DataLayer is meant where they are used."""

from typing import TYPE_CHECKING, Any, cast

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from ...core import current
from .schema_lock import lock_schema

if TYPE_CHECKING:
    from .engines import Engines


def engines() -> "Engines":
    """Those of the layer that was entered, else of the only open one, else of the default."""
    return cast("Any", current.layer()).relational  # type: ignore[no-any-return]


class CurrentEngine(sa.Engine):
    """A SQLAlchemy engine in everything, and another one with another layer: it may be imported before there is any."""

    def __init__(self) -> None:
        """Nothing is opened or looked up before its use."""

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__") or name == "_run_ddl_visitor":
            return object.__getattribute__(self, name)
        return getattr(engines().engine, name)

    def _run_ddl_visitor(self, visitorcallable: Any, element: Any, **options: Any) -> None:
        """What `metadata.create_all(engine)` comes to: processes that do so at once wait for each other."""
        with self.begin() as connection:
            lock_schema(connection)
            connection._run_ddl_visitor(visitorcallable, element, **options)  # noqa: SLF001 - as SQLAlchemy's own does

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(engines().engine, name, value)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class CurrentAsyncEngine(AsyncEngine):
    """The same for the running event loop."""

    def __init__(self) -> None:
        """Nothing is opened or looked up before its use."""

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__"):
            return object.__getattribute__(self, name)
        return getattr(engines().async_engine, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(engines().async_engine, name, value)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"
