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
        self._names = tuple(table.encoders)
        self._places = tuple(
            (place, encode) for place, encode in enumerate(table.plain_encoders.values()) if encode is not None
        )
        self._decode_json = table.dialect.decode_json
        self._decoders: dict[tuple[str, ...], Decode] = {}
        self.decode = self.decoder(())

    def encode(self, document: Document, expires_at: float | None) -> Row:
        schema = self._table.schema
        row = list(map(document.get, self._names))
        place = 0
        try:
            for place, encode in self._places:
                value = row[place]
                if value is not None:
                    row[place] = encode(value)
        except InvalidChangeError as error:
            raise InvalidChangeError(f"{schema.name}.{self._names[place]}: {error}") from None
        except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
            # Nothing validated the entity: it was made by `model_construct`, or changed afterwards.
            kind = type(row[place]).__name__
            raise InvalidChangeError(f"{schema.name}.{self._names[place]}: {kind} is not its type") from error
        if schema.open:
            beyond = {name: value for name, value in document.items() if name not in schema.fields}
            row.append(self._table.dialect.encode_json(beyond))
        if schema.expires:
            row.append(expires_at)
        return tuple(row)

    def encode_all(self, documents: Sequence[Document], expires_at: float | None) -> list[Row]:
        return [self.encode(document, expires_at) for document in documents]

    def grouped(self, documents: Sequence[Document]) -> dict[tuple[str, ...], dict[int, Row]]:
        """The rows of documents that leave some columns to the store: by the fields they have, then by their place."""
        groups: dict[tuple[str, ...], dict[int, Row]] = {}
        for place, document in enumerate(documents):
            row = zip(self._names, self.encode(document, None), strict=True)
            given = {name: value for name, value in row if name in document}
            groups.setdefault(tuple(given), {})[place] = tuple(given.values())
        return groups

    def decoder(self, fields: tuple[str, ...]) -> Decode:
        """What makes documents of the rows of `Table.selected(fields)`."""
        found = self._decoders.get(fields)
        if found is None:
            found = self._decoders[fields] = self._make(fields)
        return found

    def _make(self, fields: tuple[str, ...]) -> Decode:
        names = tuple(str(column.key) for column in self._table.selected(fields))
        found = [(place, self._table.decoders[name]) for place, name in enumerate(names) if name != EXTRA]
        places = tuple((place, decode) for place, decode in found if decode is not None)

        def decode(row: Row) -> Document:
            values = list(row)
            for place, decode in places:
                value = values[place]
                if value is not None:
                    values[place] = decode(value)
            return dict(zip(names, values, strict=True))

        if EXTRA not in names:
            return decode
        beyond = tuple(name for name in fields if name not in self._table.schema.fields)

        def decode_open(row: Row) -> Document:
            document = decode(row)
            extra: Mapping[str, Any] = self._decode_json(document.pop(EXTRA))
            document.update({name: extra[name] for name in beyond if name in extra} if fields else extra)
            return document

        return decode_open
