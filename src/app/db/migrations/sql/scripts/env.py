"""What Alembic runs for each of its commands. It is loaded by its path, so the rest is found by name."""

from importlib import import_module

from alembic import context

import_module(context.config.get_main_option("environment", "")).run(context)
