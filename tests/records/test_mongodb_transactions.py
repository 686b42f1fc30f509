"""Transactions of MongoDB, and what the server refuses: what is sent, and what an application hears."""

import logging
from typing import Any

import pytest
from pymongo.errors import OperationFailure

from app.connections.mongodb import MongoDBConnectionManager
from app.core.errors import (
    AppError,
    DuplicateRecordError,
    InvalidChangeError,
    MigrationError,
    OutcomeUnknownError,
    StoreUnavailableError,
    TransactionError,
    UnsupportedOperationError,
)
from app.db.backends import Capability
from app.testing.models import Notes, Product, Products

from .mongodb_wire import Command, Wire, found
from .test_mongodb_commands import STORED

PLANTED = "planted-value"


@pytest.fixture
async def products(wire: Wire, mongodb: MongoDBConnectionManager) -> Products:
    products = Products(mongodb)
    await products.count()
    wire.take()
    return products


def names(commands: list[Command]) -> list[str]:
    return [next(iter(each)) for each in commands]


def failing(command: str, **answer: Any) -> Any:
    return lambda sent: {"ok": 0, "errmsg": PLANTED, **answer} if command in sent else None


async def test_every_command_names_the_transaction(wire: Wire, products: Products) -> None:
    async with products.transaction() as tx:
        await tx.create(Product(id="1", name="a"))
        await tx.get("1")
        await tx.update_many({"name": "a"}, {"price": 1})
        await tx.delete("1")
        await tx.count()
        await tx.repository(Notes).get("1")
    sent = wire.take()
    assert names(sent) == [
        "insert",
        "find",
        "update",
        "delete",
        "aggregate",
        "createIndexes",
        "find",
        "commitTransaction",
    ]
    ensured = sent.pop(5)
    assert "autocommit" not in ensured, "an index cannot be made of what is there within a transaction"
    first, *others = sent
    assert first["startTransaction"] is True
    assert {each["autocommit"] for each in sent} == {False}
    assert len({each["txnNumber"] for each in sent}) == 1
    assert all("startTransaction" not in each for each in others)
    assert others[-1]["writeConcern"] == {"w": "majority"}


async def test_an_exception_aborts(wire: Wire, products: Products) -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - what happens in the block is the point
        async with products.transaction() as tx:
            await tx.create(Product(id="1", name="a"))
            raise ZeroDivisionError
    assert names(wire.take()) == ["insert", "abortTransaction"]


async def test_what_is_absent_is_put_without_an_error_that_would_end_it(wire: Wire, products: Products) -> None:
    wire.answer = lambda sent: {"n": 1, "nModified": 0} if "update" in sent else None
    async with products.transaction() as tx:
        assert await tx.put_if_absent(Product(id="1", name="a")) is False
    [put, _] = wire.take()
    [update] = put["updates"]
    new = {name: value for name, value in STORED.items() if name != "_id"}
    assert (update["q"], update["u"], update["upsert"]) == ({"_id": "1"}, {"$setOnInsert": new}, True)


async def test_a_transaction_that_met_another_is_to_be_run_again(wire: Wire, products: Products) -> None:
    labels = {"code": 112, "codeName": "WriteConflict", "errorLabels": ["TransientTransactionError"]}
    wire.answer = failing("findAndModify", **labels)
    with pytest.raises(TransactionError, match="run it again") as caught:
        async with products.transaction() as tx:
            await tx.upsert(Product(id="1", name="a"))
    assert PLANTED not in chain(caught.value)
    wire.answer = failing("commitTransaction", **labels)
    with pytest.raises(TransactionError, match="run it again"):
        async with products.transaction() as tx:
            await tx.create(Product(id="1", name="a"))


async def test_our_own_transactions_are_run_again(wire: Wire, products: Products) -> None:
    left = [2]

    def answer(sent: Command) -> Command | None:
        if "insert" in sent and left[0]:
            left[0] -= 1
            return {"ok": 0, "code": 112, "errmsg": "", "errorLabels": ["TransientTransactionError"]}
        return None

    wire.answer = answer
    await products.create_many([Product(id="1", name="a"), Product(id="2", name="b")])
    sent = wire.take()
    assert names(sent) == ["insert", "abortTransaction", "insert", "abortTransaction", "insert", "commitTransaction"]
    left[0] = 99
    with pytest.raises(TransactionError):
        await products.create_many([Product(id="1", name="a"), Product(id="2", name="b")])


async def test_an_unknown_commit_says_so(wire: Wire, products: Products) -> None:
    wire.answer = failing("commitTransaction", code=64, errorLabels=["UnknownTransactionCommitResult"])
    with pytest.raises(OutcomeUnknownError) as caught:
        async with products.transaction() as tx:
            await tx.create(Product(id="1", name="a"))
    assert PLANTED not in chain(caught.value)


async def test_a_single_server_refuses_before_any_write(wire: Wire, mongodb: MongoDBConnectionManager) -> None:
    wire.single = True
    products = Products(mongodb)
    await products.count()
    assert Capability.TRANSACTIONS not in products.capabilities
    wire.take()
    with pytest.raises(UnsupportedOperationError, match="replica set"):
        async with products.transaction() as tx:
            await tx.create(Product(name="a"))
    with pytest.raises(UnsupportedOperationError, match="replica set"):
        await products.upsert_many([Product(name="a"), Product(name="b")])
    assert wire.take() == []


# ---------------------------------------------------------------- refusals


def chain(error: BaseException | None) -> str:
    text = ""
    while error is not None:
        text += f"{error!r} {error} {getattr(error, 'details', '')}"
        error = error.__cause__ or error.__context__
    return text


def duplicate(**details: Any) -> Any:
    error = {"index": 0, "code": 11000, "errmsg": f"E11000 {PLANTED}", **details}
    return lambda sent: {"n": 0, "writeErrors": [error]} if "insert" in sent else None


@pytest.mark.parametrize(
    ("details", "fields"),
    [
        ({"keyPattern": {"name": 1, "price": 1}, "keyValue": {"name": PLANTED, "price": 1}}, ("name", "price")),
        ({"keyPattern": {"_id": 1}, "keyValue": {"_id": PLANTED}}, ("id",)),
        (
            {"errmsg": f"E11000 error collection: app.products index: offer dup key: {PLANTED}"},
            ("name", "price"),
        ),
        (
            {"errmsg": f"E11000 error index: app.products.$products_sku_unique dup key: {PLANTED}"},
            ("sku",),
        ),
        (
            {"errmsg": f"E11000 error collection: app.products index: _id_ dup key: {PLANTED}"},
            ("id",),
        ),
        ({}, ()),
    ],
)
async def test_a_duplicate_names_the_fields_and_no_value(
    wire: Wire, products: Products, details: dict[str, Any], fields: tuple[str, ...]
) -> None:
    wire.answer = duplicate(**details)
    for call in (products.create, lambda each: products.create_many([each, Product(id="2", name="b")])):
        with pytest.raises(DuplicateRecordError) as caught:
            await call(Product(id="1", name=PLANTED))
        assert caught.value.fields == fields
        assert isinstance(caught.value.__cause__, OperationFailure)
        assert PLANTED not in chain(caught.value)


async def test_an_upsert_that_came_second_finds_the_first(wire: Wire, products: Products) -> None:
    answers = iter([{"ok": 0, "code": 11000, "errmsg": "", "keyPattern": {"sku": 1}}, {"value": STORED}])
    wire.answer = lambda sent: next(answers) if "findAndModify" in sent else None
    assert (await products.upsert(Product(id="2", name="a", sku="x"), on="sku")).id == "1"
    assert names(wire.take()) == ["findAndModify", "findAndModify"]
    wire.answer = failing("findAndModify", code=11000, keyPattern={"_id": 1})
    with pytest.raises(DuplicateRecordError):
        await products.upsert(Product(id="2", name="a", sku="x"), on="sku")
    assert names(wire.take()) == ["findAndModify"]


@pytest.mark.parametrize(
    ("code", "error"),
    [(121, InvalidChangeError), (10334, InvalidChangeError), (2, InvalidChangeError), (13, StoreUnavailableError)],
)
async def test_what_the_server_refuses(wire: Wire, products: Products, code: int, error: type[AppError]) -> None:
    wire.answer = failing("findAndModify", code=code, codeName="Name")
    with pytest.raises(error, match=f"{code}") as caught:
        await products.update("1", {"name": PLANTED})
    assert PLANTED not in chain(caught.value)


@pytest.mark.parametrize(("code", "match"), [(85, "dropIndexes"), (86, "dropIndexes"), (11000, "migrate")])
async def test_indexes_that_cannot_be(wire: Wire, mongodb: MongoDBConnectionManager, code: int, match: str) -> None:
    wire.answer = failing("createIndexes", code=code)
    with pytest.raises(MigrationError, match=match) as caught:
        await Products(mongodb).count()
    assert PLANTED not in chain(caught.value)
    assert names(wire.take()) == ["createIndexes"]
    wire.answer = lambda _: None
    products = Products(mongodb)
    await products.count()
    assert names(wire.take()) == ["createIndexes", "aggregate"]


async def test_a_document_that_is_too_large(wire: Wire, products: Products) -> None:
    with pytest.raises(InvalidChangeError, match="16 MB"):
        await products.create(Product(id="1", name="a", tags=["x" * (2**24 + 2**16)]))
    assert wire.take() == []


async def test_a_record_that_is_never_what_was_read_is_an_error_in_the_end(wire: Wire, products: Products) -> None:
    def answer(sent: Command) -> Command | None:
        return found(STORED) if "find" in sent else {"n": 0} if "update" in sent else None

    wire.answer = answer
    with pytest.raises(StoreUnavailableError, match="by its own content"):
        await products.increment("1", "stock")


async def test_a_stream_whose_connection_is_lost_does_not_end_as_if_it_were_complete(
    wire: Wire, products: Products
) -> None:
    def answer(sent: Command) -> Command | None:
        if "getMore" in sent:
            raise ConnectionResetError
        return found(STORED, STORED, cursor=7) if "find" in sent else None

    wire.answer = answer
    stream = products.stream(batch_size=2)
    assert [(await anext(stream)).id for _ in range(2)] == ["1", "1"]
    with pytest.raises(StoreUnavailableError, match="begin again"):
        await anext(stream)


async def test_the_drivers_log_of_commands_is_off_unless_it_is_asked_for(
    products: Products, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await products.create(Product(name=PLANTED))
    assert PLANTED not in caplog.text


async def test_upserts_that_came_second_find_the_first(wire: Wire, products: Products) -> None:
    refused = {"index": 0, "code": 11000, "errmsg": "", "keyPattern": {"_id": 1}}
    answers = iter([{"n": 0, "nModified": 0, "writeErrors": [refused]}, {"n": 2, "nModified": 2}])
    wire.answer = lambda sent: next(answers) if "update" in sent else None
    assert await products.upsert_many([Product(id="1", name="a"), Product(id="2", name="b")]) == 2
    assert names(wire.take()) == ["update", "abortTransaction", "update", "commitTransaction"]


async def test_a_stream_begins_again_where_its_connection_had_died(wire: Wire, products: Products) -> None:
    lost = [True]

    def answer(sent: Command) -> Command | None:
        if "find" in sent and lost:
            lost.clear()
            raise ConnectionResetError
        return found(STORED) if "find" in sent else None

    wire.answer = answer
    assert [each.id async for each in products.stream()] == ["1"]
    assert names(wire.take()) == ["find", "find"]
