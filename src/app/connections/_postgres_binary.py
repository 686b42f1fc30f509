"""A parameter that is in its type's own binary format already."""

from psycopg.adapt import Dumper
from psycopg.pq import Format


class Binary:
    """One parameter in its type's own binary format; the statement casts it, and so says its type.

    A connection of ours knows how to send it; another has to be told (`register_dumper(Binary, BinaryDumper)`).
    """

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class BinaryDumper(Dumper):
    format = Format.BINARY
    oid = 0

    def dump(self, obj: Binary) -> bytes:
        return obj.data
