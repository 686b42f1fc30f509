"""Where `env.py` leads: to the run at hand, or for the command `alembic` to one on the configured connection."""

import asyncio
from typing import TYPE_CHECKING, Any, Final

from alembic.runtime.environment import EnvironmentContext
from alembic.util import CommandError

from ....core import current
from ....core.errors import AppError

if TYPE_CHECKING:
    from .run import Run

RUN: Final = "manystore"
"""The attribute of Alembic's configuration that holds the run."""


def run(context: Any) -> None:
    """`context` is Alembic's module of that name, which stands for the environment that is being run."""
    environment: EnvironmentContext = context._proxy  # noqa: SLF001 - what the module stands for
    found: Run | None = environment.config.attributes.get(RUN)
    if found is not None:
        found.perform(environment)
        return
    try:
        asyncio.run(_from_command(environment))
    except AppError as error:
        raise CommandError(str(error)) from error  # which the command says in one line


async def _from_command(environment: EnvironmentContext) -> None:
    """The connection is the one that `alembic.ini` names, as the application's own configuration has it."""
    from ..migrations import Migrations  # noqa: PLC0415 - above this module
    from .migrator import SQLMigrator  # noqa: PLC0415

    layer: Any = current.layer()
    name = environment.config.get_alembic_option("connection")
    try:
        migrator = Migrations(layer).of(name or "sqlite")
        assert isinstance(migrator, SQLMigrator)  # noqa: S101 - `alembic.ini` is ours
        await migrator.work(lambda run: run.perform(environment))
    finally:
        await layer.close()
