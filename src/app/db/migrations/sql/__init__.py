"""Migrations of SQL stores: Alembic's revisions, with a ledger and a lock beside them."""
