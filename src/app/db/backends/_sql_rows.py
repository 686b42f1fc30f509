"""Between documents and the rows of a table."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from ...core.errors import InvalidChangeError
from ..query.operations import Document
from ._sql import EXTRA
from ._sql_table import Table

Row: TypeAlias = tuple[Any, ...]
"""The values of some columns, as the driver takes and gives them."""
Decode: TypeAlias = Callable[[Row], Document]


class RowCodec:
    """Rows go in with all columns of the table, in its order, and come out with those that were asked for."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._encoders = tuple(table.encoders.items())
        self._decode_json = table.dialect.decode_json
        self._decoders: dict[tuple[str, ...], Decode] = {}
        self.decode = self.decoder(())

    def encode(self, document: Document, expires_at: float | None) -> Row:
        schema = self._table.schema
        row = []
        name, value = "", None
        try:
            for name, encode in self._encoders:
                value = document.get(name)
                row.append(value if encode is None else encode(value))
        except InvalidChangeError as error:
            raise InvalidChangeError(f"{schema.name}.{name}: {error}") from None
        except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
            # Nothing validated the entity: it was made by `model_construct`, or changed afterwards.
            raise InvalidChangeError(f"{schema.name}.{name}: {type(value).__name__} is not its type") from error
        if schema.open:
            beyond = {name: value for name, value in document.items() if name not in schema.fields}
            row.append(self._table.dialect.encode_json(beyond))
        if schema.expires:
            row.append(expires_at)
        return tuple(row)

    def encode_all(self, documents: Sequence[Document], expires_at: float | None) -> list[Row]:
        return [self.encode(document, expires_at) for document in documents]

    def decoder(self, fields: tuple[str, ...]) -> Decode:
        """What makes documents of the rows of `Table.selected(fields)`."""
        found = self._decoders.get(fields)
        if found is None:
            found = self._decoders[fields] = self._make(fields)
        return found

    def _make(self, fields: tuple[str, ...]) -> Decode:
        names = tuple(column.name for column in self._table.selected(fields))
        decoders = {name: self._table.decoders[name] for name in names if name != EXTRA}
        present = tuple((name, decode) for name, decode in decoders.items() if decode is not None)

        def decode(row: Row) -> Document:
            document = dict(zip(names, row, strict=True))
            for name, decode in present:
                value = document[name]
                if value is not None:
                    document[name] = decode(value)
            return document

        if EXTRA not in names:
            return decode
        beyond = tuple(name for name in fields if name not in self._table.schema.fields)

        def decode_open(row: Row) -> Document:
            document = decode(row)
            extra: Mapping[str, Any] = self._decode_json(document.pop(EXTRA))
            document.update({name: extra[name] for name in beyond if name in extra} if fields else extra)
            return document

        return decode_open
