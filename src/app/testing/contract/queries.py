"""The query builder and field expressions."""

from typing import Any

import pytest

from ...core.errors import (
    InvalidFilterError,
    MultipleRecordsError,
    RecordNotFoundError,
    UnsupportedOperationError,
)
from ...db.query import F
from ..models import Address, Notes, Part, Parts, Product, Products, fill
from .base import Contract, Place


async def shelf(products: Products) -> None:
    await products.create_many(
        Product(
            id=f"id-{i}",
            name=f"n{i}",
            sku=f"s{i}",
            stock=i,
            price=float(i % 3),
            sold=None if i % 2 else i,
            tags=["even" if i % 2 == 0 else "odd", f"t{i}"],
            address=None if i == 0 else Address(city=f"city {i % 4}"),
        )
        for i in range(10)
    )


CONDITIONS: list[tuple[Any, list[int]]] = [
    (F.stock > 7, [8, 9]),
    (F.stock >= 7, [7, 8, 9]),
    (F.stock < 2, [0, 1]),
    (F.stock <= 2, [0, 1, 2]),
    (F.stock == 3, [3]),
    (F.stock != 3, [0, 1, 2, 4, 5, 6, 7, 8, 9]),
    (F.stock.in_([1, 2, 99]), [1, 2]),
    (F.stock.not_in([1, 2]), [0, 3, 4, 5, 6, 7, 8, 9]),
    (F.stock.in_([]), []),
    (F.name.startswith("n1"), [1]),
    (F.name.contains("9"), [9]),
    (F.tags.contains("odd"), [1, 3, 5, 7, 9]),
    (F.sold.is_null(), [1, 3, 5, 7, 9]),
    (F.sold.exists(), [0, 2, 4, 6, 8]),
    (F.sold == None, [1, 3, 5, 7, 9]),  # noqa: E711 - an expression
    (F.address.city == "city 1", [1, 5, 9]),
    (F["address.city"] == "city 1", [1, 5, 9]),
    (F.address["city"] == "city 1", [1, 5, 9]),
    (F.address.city.exists(), [1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ((F.stock > 2) & (F.stock < 5), [3, 4]),
    ((F.stock < 1) | (F.stock > 8), [0, 9]),
    (~(F.stock > 2), [0, 1, 2]),
    ((F.stock > 2) & ~((F.stock > 4) | F.tags.contains("odd")), [4]),
]


class QueryContract(Contract):
    @pytest.mark.parametrize(("condition", "expected"), CONDITIONS, ids=range(len(CONDITIONS)))
    async def test_a_field_expression(self, products: Products, condition: Any, expected: list[int]) -> None:
        await shelf(products)
        assert [each.stock for each in await products.find(condition)] == expected
        assert [each.stock for each in await products.query().where(condition).execute()] == expected
        assert await products.count(condition) == len(expected)
        assert await products.exists(condition) is bool(expected)

    async def test_the_query_of_the_specification(self, products: Products) -> None:
        await shelf(products)
        found = (
            await products.query()
            .where("stock", ">", 2)
            .where("price", "=", 1)
            .order_by("stock", "desc")
            .limit(2)
            .execute()
        )
        assert [each.stock for each in found] == [7, 4]
        assert isinstance(found[0], Product)

    async def test_conditions_come_in_three_spellings(self, products: Products) -> None:
        await shelf(products)
        query = products.query().where("stock", ">", 2).where({"stock": {"$lt": 6}}).where(F.tags.contains("odd"))
        assert [each.stock for each in await query.execute()] == [3, 5]
        assert [each.stock for each in await query.where("sku", "in", ["s5"]).execute()] == [5]
        assert [
            each.stock for each in await products.query().where("sold", "is null").where("stock", "<", 4).execute()
        ] == [1, 3]
        assert await products.query().where("address.city", "exists").count() == 9

    async def test_a_query_is_not_changed_by_what_is_built_upon_it(self, products: Products) -> None:
        await shelf(products)
        base = products.query().where("stock", ">", 5)
        assert await base.where("stock", ">", 8).count() == 1
        assert await base.limit(1).count() == 1
        assert await base.order_by("-stock").first() == await products.get("id-9")
        assert await base.count() == 4

    async def test_first_one_count_and_exists(self, products: Products) -> None:
        await shelf(products)
        query = products.query().where("stock", ">", 5)
        first = await query.order_by("stock", "desc").first()
        assert first is not None
        assert first.stock == 9
        assert (await query.where("stock", "=", 7).one()).stock == 7
        with pytest.raises(MultipleRecordsError):
            await query.one()
        none = query.where("stock", "=", 1)
        with pytest.raises(RecordNotFoundError):
            await none.one()
        assert await none.first() is None
        assert await none.exists() is False
        assert await query.exists() is True
        assert await query.count() == 4
        assert await query.skip(1).count() == 3
        assert await query.skip(1).limit(2).count() == 2
        assert await query.skip(9).count() == 0
        assert await query.limit(0).count() == 0
        assert await query.limit(0).exists() is False
        assert await query.limit(0).first() is None
        assert await query.skip(4).exists() is False
        assert [each.stock for each in await query.skip(1).limit(2).execute()] == [7, 8]

    async def test_orders_add_up(self, products: Products) -> None:
        await shelf(products)
        query = products.query().order_by("price").order_by("stock", "desc")
        assert [each.stock for each in await query.execute()] == [9, 6, 3, 0, 7, 4, 1, 8, 5, 2]
        assert [each.stock for each in await products.query().order_by("sold", "desc").limit(2).execute()] == [8, 6]
        assert [each.id for each in await products.query().order_by("-sold").skip(5).limit(2).execute()] == [
            "id-1",
            "id-3",
        ]

    async def test_select_gives_dicts(self, products: Products) -> None:
        await shelf(products)
        query = products.query().where("stock", "<", 2).order_by("name")
        assert await query.select("name", "address.city").execute() == [
            {"name": "n0", "address.city": None},
            {"name": "n1", "address.city": "city 1"},
        ]
        assert await query.select("tags").first() == {"tags": ["even", "t0"]}
        assert await query.where("stock", "=", 1).select("id", "address").one() == {
            "id": "id-1",
            "address": Address(city="city 1"),
        }
        page = await query.select("name").page(size=1)
        assert page.items == [{"name": "n0"}]
        assert [each async for each in products.query().where("stock", "<", 2).select("stock").stream()] in (
            [{"stock": 0}, {"stock": 1}],
            [{"stock": 1}, {"stock": 0}],
        )

    async def test_update_and_delete_by_query(self, products: Products) -> None:
        await shelf(products)
        assert await products.query().where("stock", ">", 5).update({"price": 9}) == 4
        assert await products.count({"price": 9}) == 4
        assert await products.query().where("price", "=", 9).where(F.stock < 8).delete() == 2
        assert await products.count() == 8
        for query in (products.query(), products.query().where({})):
            with pytest.raises(InvalidFilterError, match="everything=True"):
                await query.delete()
            with pytest.raises(InvalidFilterError, match="everything=True"):
                await query.update({"price": 1})
        for query in (
            products.query().where("stock", ">", 1).limit(1),
            products.query().where("stock", ">", 1).skip(1),
        ):
            with pytest.raises(UnsupportedOperationError):
                await query.delete()
            with pytest.raises(UnsupportedOperationError):
                await query.update({"price": 1})
            with pytest.raises(UnsupportedOperationError):
                await query.page()
            with pytest.raises(UnsupportedOperationError):
                query.stream()
        assert await products.query().delete(everything=True) == 8

    async def test_deleted_records_are_in_no_query(self, place: Place) -> None:
        notes = place(Notes)
        await notes.create_many([notes.model(id=f"{i}", text=f"t{i}") for i in range(4)])
        await notes.delete("1")
        query = notes.query().where("text", "!=", "t3").order_by("id")
        assert [each.id for each in await query.execute()] == ["0", "2"]
        assert await query.count() == 2
        assert {each.id async for each in notes.query().where("text", "!=", "t3").stream()} == {"0", "2"}
        assert [each.id for each in (await query.page(size=5)).items] == ["0", "2"]
        assert await query.update({"body": "x"}) == 2
        assert [each.id for each in await notes.with_deleted().query().where("text", "=", "t1").execute()] == ["1"]
        assert [each.id for each in await notes.only_deleted().query().execute()] == ["1"]

    async def test_an_index_with_a_condition_decides_nothing_else(self, place: Place) -> None:
        parts = place(Parts)
        await parts.create_many(Part(id=f"{i}", number=2, name=f"n{i % 2}{i}", code=b"x") for i in range(4))
        where = {"number": 2, "name": "n00"}
        assert [each.id for each in await parts.find(where)] == ["0"]
        assert await parts.count(where) == 1
        assert await parts.exists({"number": 2, "name": "nope"}) is False
        assert await parts.find({"number": {"$in": []}, "name": "n00"}) == []
        assert await parts.update_many(where, {"weight": 1}) == 1
        assert await parts.delete_many(where) == 1
        assert await parts.count({"number": 2}) == 3

    async def test_explain_names_the_index(self, products: Products) -> None:
        await shelf(products)
        by_index = await products.query().where("sku", "=", "s1").explain()
        assert by_index["store"] == str(products.manager.connection_type)
        assert by_index["index"]
        by_nothing = await products.query().where("tags", "contains", "odd").explain()
        assert by_nothing["index"] is None

    @pytest.mark.parametrize(
        "wrong",
        [
            ("nope", "=", 1),
            ("stock", "==", 1),
            ("stock", "$gt", 1),
            ("stock", ">"),
            ("stock",),
            ("stock", 1),
            (F.stock, ">", 1),
            (F.stock,),
            (F.nope > 1,),
            ({"nope": 1},),
            ({"stock": {"$where": "1"}},),
            ("stock", ">", [1]),
            ("stock", "in", 1),
            ("name", "startswith", 1),
            ("stock; --", "=", 1),
            ("", "=", 1),
            (5, "=", 1),
        ],
        ids=repr,
    )
    async def test_a_wrong_condition_is_an_error(self, products: Products, wrong: tuple[Any, ...]) -> None:
        with pytest.raises(InvalidFilterError):
            products.query().where(*wrong)

    async def test_a_wrong_order_range_or_selection_is_an_error(self, products: Products) -> None:
        wrong: list[tuple[str, tuple[Any, ...]]] = [
            ("order_by", ("nope",)),
            ("order_by", ("name", "up")),
            ("order_by", ("name; --",)),
            ("order_by", (5,)),
            ("limit", (-1,)),
            ("limit", (True,)),
            ("limit", ("1",)),
            ("skip", (-1,)),
            ("select", ()),
            ("select", ("nope",)),
            ("select", ("name", "nope.x")),
            ("select", ("name; --",)),
            ("select", (5,)),
        ]
        for method, arguments in wrong:
            with pytest.raises(InvalidFilterError):
                getattr(products.query(), method)(*arguments)

    async def test_python_operators_that_would_lose_a_condition_raise(self, products: Products) -> None:
        with pytest.raises(InvalidFilterError, match="&"):
            _ = (F.stock > 1) and (F.stock < 5)
        with pytest.raises(InvalidFilterError):
            _ = 1 < F.stock < 5
        with pytest.raises(InvalidFilterError):
            _ = not (F.stock > 1)
        await fill(products, "a")
        assert await products.count(~(F.stock > 1)) == 1
