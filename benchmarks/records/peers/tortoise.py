"""Tortoise ORM: its model, with a pydantic model in and out."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

from tortoise import Tortoise, connections, fields
from tortoise.models import Model

from ..product import CHANGE, FIELDS, PriceChange, Product
from ..side import PAGE_SIZE, POOL_SIZE, Data, Side
from .sql import Store


class TortoiseProduct(Model):
    id = fields.CharField(24, primary_key=True)
    created_at = fields.DatetimeField()
    updated_at = fields.DatetimeField(auto_now=True)
    sku = fields.CharField(64, unique=True)
    name = fields.CharField(200)
    category = fields.CharField(64, db_index=True)
    price = fields.FloatField()
    quantity = fields.IntField()
    is_active = fields.BooleanField()
    tags: Any = fields.JSONField()

    class Meta:
        table = "tortoise_products"


_ASSIGNED = [name for name in FIELDS if name not in ("id", "created_at")]


def to_product(row: TortoiseProduct) -> Product:
    return Product.model_validate(row, from_attributes=True)


class TortoiseORM(Side):
    name = "Tortoise"

    def __init__(self, store: Store, place: str) -> None:
        self._store = store
        self._connection = _on_postgres(place) if store == "postgres" else _on_sqlite(place)

    async def open(self) -> None:
        await Tortoise.init(
            config={
                # Its statements are remembered by the name of the connection, of whatever dialect they are.
                "connections": {self._store: self._connection},
                "apps": {"models": {"models": [__name__], "default_connection": self._store}},
                "use_tz": True,
            },
        )
        await Tortoise.generate_schemas()

    async def close(self) -> None:
        await connections.close_all()

    async def clear(self) -> None:
        await TortoiseProduct.all().delete()

    async def create(self, data: Data) -> Product:
        return to_product(await TortoiseProduct.create(**Product(**data).model_dump()))

    async def get(self, data: Data) -> Product | None:
        return _read(await TortoiseProduct.get_or_none(id=data["id"]))

    async def get_by_unique_field(self, data: Data) -> Product | None:
        return _read(await TortoiseProduct.get_or_none(sku=data["sku"]))

    async def update(self, data: Data) -> Product | None:
        change = PriceChange(**CHANGE)
        row = await TortoiseProduct.get_or_none(id=data["id"])
        if row is None:
            return None
        row.price = change.price
        await row.save(update_fields=["price", "updated_at"])
        return to_product(row)

    async def exists(self, data: Data) -> bool:
        return await TortoiseProduct.exists(sku=data["sku"])

    async def page(self, data: Data) -> list[Product]:
        rows = await TortoiseProduct.filter(category=data["category"]).order_by("sku", "id").limit(PAGE_SIZE + 1)
        return [to_product(row) for row in rows[:PAGE_SIZE]]

    async def delete(self, data: Data) -> bool:
        return await TortoiseProduct.filter(id=data["id"]).delete() == 1

    async def bulk_insert(self, batch: list[Data]) -> list[Product]:
        rows = _rows(batch)
        await TortoiseProduct.bulk_create(rows)
        return [to_product(row) for row in rows]

    async def bulk_upsert(self, batch: list[Data]) -> int:
        await TortoiseProduct.bulk_create(_rows(batch), on_conflict=["id"], update_fields=_ASSIGNED)
        return len(batch)


def _rows(batch: list[Data]) -> list[TortoiseProduct]:
    return [TortoiseProduct(**Product(**data).model_dump()) for data in batch]


def _read(row: TortoiseProduct | None) -> Product | None:
    return None if row is None else to_product(row)


def _on_sqlite(path: str) -> dict[str, Any]:
    credentials = {"file_path": path, "journal_mode": "WAL", "synchronous": "NORMAL"}
    return {"engine": "tortoise.backends.sqlite", "credentials": credentials}


def _on_postgres(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    options = {name: values[0] for name, values in parse_qs(parts.query).items()}
    return {
        "engine": "tortoise.backends.asyncpg",
        "credentials": {
            "host": options.get("host", parts.hostname),
            "port": int(options.get("port", parts.port or 5432)),
            "user": parts.username,
            "password": parts.password,
            "database": parts.path.removeprefix("/"),
            "minsize": 1,
            "maxsize": POOL_SIZE,
        },
    }
