"""SQLite as it is: SQLAlchemy's reflection drops the collation of an index, and a rebuilt table would lose it."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine import Connection


class ReflectingDialect(SQLiteDialect_pysqlite):
    driver = "manystore"
    supports_statement_cache = True

    def get_indexes(self, connection: Connection, table_name: str, schema: str | None = None, **options: Any) -> Any:
        indexes = super().get_indexes(connection, table_name, schema, **options)  # type: ignore[no-untyped-call]
        for index in indexes:
            options = index.get("dialect_options", {})
            if "sqlite_where" in options:
                # In a text, what follows a colon would be a parameter.
                options["sqlite_where"] = sa.literal_column(options["sqlite_where"].text)
            rows = connection.exec_driver_sql("SELECT * FROM pragma_index_xinfo(?)", (index["name"],)).fetchall()
            columns = [(name, collation) for _, _, name, _, collation, is_key in rows if is_key]
            if any(collation != "BINARY" for _, collation in columns) and all(name for name, _ in columns):
                quote = self.identifier_preparer.quote
                index["column_names"] = [None if collation != "BINARY" else name for name, collation in columns]
                index["expressions"] = [
                    f"{quote(name)} COLLATE {quote(collation)}" if collation != "BINARY" else name
                    for name, collation in columns
                ]
        return indexes
