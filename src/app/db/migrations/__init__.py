"""Versioned changes of every store: `Migration` classes, and Alembic's revisions where there is SQL."""

from .ledger import Status
from .migration import Migration
from .migrations import Migrations
from .migrator import Events, Migrator, Report

__all__ = ["Events", "Migration", "Migrations", "Migrator", "Report", "Status"]
