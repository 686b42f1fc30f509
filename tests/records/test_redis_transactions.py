"""Transactions on Redis: what is checked at the commit, what one script applies, and what stays as it was."""

from typing import Any

import pytest

from app.core.errors import DuplicateRecordError, StoreUnavailableError, TransactionError
from app.db import DataLayer
from app.db.repositories.signup_session_repository import SignupSessionRepository
from app.testing.models import Note, Notes, Product, Products, fill


@pytest.fixture
def store() -> str:
    return "redis"


@pytest.fixture
def redis(data: DataLayer) -> Any:
    return data.connection("redis")


@pytest.fixture
async def products(data: DataLayer) -> Products:
    products = data.repository(Products)
    await fill(products, "a", "b")
    return products


@pytest.mark.parametrize("write", ["update", "delete", "recreate"])
@pytest.mark.parametrize("read", ["get", "find", "count", "stream", "exists", "update", "delete"])
async def test_what_was_read_may_not_change_before_the_commit(products: Products, read: str, write: str) -> None:
    with pytest.raises(TransactionError, match="run the transaction again"):  # noqa: PT012 - the commit raises, at the end of the block
        async with products.transaction() as tx:
            match read:
                case "get":
                    await tx.get("id-a")
                case "find":
                    await tx.find({"name": {"$ne": "b"}})
                case "count" | "exists":
                    await getattr(tx, read)({"sku": "a"})
                case "stream":
                    assert len([each async for each in tx.stream()]) == 2
                case "update":
                    await tx.update("id-a", {"stock": 1})
                case "delete":
                    await tx.delete("id-a")
            await tx.create(Product(id="new", name="new"))
            match write:
                case "update":
                    await products.update("id-a", {"stock": 7})
                case "delete":
                    await products.delete("id-a")
                case "recreate":
                    await products.delete("id-a")
                    await products.create(Product(id="id-a", name="other"))
    assert await products.get("new") is None
    found = await products.get("id-a")
    assert (found and (found.name, found.stock)) == {"update": ("a", 7), "delete": None, "recreate": ("other", 0)}[
        write
    ]


async def test_what_was_absent_is_still_absent_at_the_commit(products: Products) -> None:
    for read in ("get", "put_if_absent", "update", "delete"):
        with pytest.raises(TransactionError):  # noqa: PT012 - the commit raises, at the end of the block
            async with products.transaction() as tx:
                if read == "put_if_absent":
                    assert await tx.put_if_absent(Product(id="new", name="mine"))
                else:
                    assert not await (tx.update("new", {"stock": 1}) if read == "update" else getattr(tx, read)("new"))
                await tx.update("id-a", {"stock": 5})
                await products.create(Product(id="new", name="theirs"))
        assert (await products.get_or_raise("new")).name == "theirs"
        assert (await products.get_or_raise("id-a")).stock == 0
        await products.delete("new")


async def test_a_change_that_was_taken_back_is_none(products: Products) -> None:
    async with products.transaction() as tx:
        await tx.update("id-a", {"stock": 1})
        await products.update("id-a", {"name": "x"})
        await products.update("id-a", {"name": "a"})
    assert (await products.get_or_raise("id-a")).stock == 1


async def test_a_transaction_that_writes_nothing_checks_nothing(products: Products) -> None:
    async with products.transaction() as tx:
        assert (await tx.get_or_raise("id-a")).stock == 0
        await products.update("id-a", {"stock": 7})
        assert (await tx.get_or_raise("id-a")).stock == 0, "read once"
        assert [each.stock for each in await tx.find({"name": "a"})] == [0]


async def test_phantoms_are_not_noticed_but_unique_values_are(products: Products) -> None:
    async with products.transaction() as tx:
        assert await tx.count({"stock": 0}) == 2
        await tx.update("id-a", {"stock": 1})
        await products.create(Product(id="new", name="new"))
    assert (await products.get_or_raise("id-a")).stock == 1
    with pytest.raises(DuplicateRecordError) as caught:  # noqa: PT012 - the commit raises, at the end of the block
        async with products.transaction() as tx:
            assert await tx.find_one({"sku": "z"}) is None
            await tx.create(Product(name="z", sku="z"))
            await tx.update("id-a", {"stock": 2})
            await products.create(Product(id="thief", name="thief", sku="z"))
    assert caught.value.fields == ("sku",)
    assert (await products.get_or_raise("id-a")).stock == 1


async def test_unique_values_move_within_a_transaction(products: Products, redis: Any) -> None:
    async with products.transaction() as tx:  # in a circle, through a third value, in an order that suits none
        await tx.get_many(["id-b", "id-a"])
        await tx.update("id-a", {"sku": "c"})
        await tx.update("id-b", {"sku": "a"})
        await tx.update("id-a", {"sku": "b"})
        with pytest.raises(DuplicateRecordError):
            await tx.create(Product(name="x", sku="a"))
        await tx.create(Product(name="y", sku="c"))
    assert [(await products.find_one({"sku": sku})).name for sku in "abc"] == ["b", "a", "y"]  # type: ignore[union-attr]
    async with products.transaction() as tx:
        for sku in ("d", "e", None):
            await tx.update("id-a", {"sku": sku})
        await tx.delete("id-b")
        await tx.create(Product(id="id-b", name="again", sku="b"))
        await tx.create(Product(id="brief", name="brief", sku="f"))
        await tx.delete("brief")
    assert len(await redis.keys("@products:sku_unique:*")) == 2
    await fill(products, "d", "e", "f")
    await products.delete_many(None, everything=True)
    assert await redis.keys("@products:*") == [], "every entry went with its record"


async def test_upserts_of_one_call_pass_a_unique_value_on(products: Products) -> None:
    await products.upsert_many([Product(id="id-a", name="a", sku="c"), Product(id="id-b", name="b", sku="a")])
    assert [each.sku for each in await products.all()] == ["c", "a"]
    with pytest.raises(DuplicateRecordError):  # one after the other, as on SQL stores
        await products.upsert_many([Product(id="id-a", name="a", sku="a"), Product(id="id-b", name="b", sku="c")])


async def test_collections_of_one_commit(data: DataLayer, products: Products) -> None:
    sessions = data.repository(SignupSessionRepository)
    notes = data.repository(Notes)
    await sessions.create_session("s", {"list": [], "n": 2**60})
    await notes.create(Note(id="n", text="t"))
    with pytest.raises(TransactionError):  # noqa: PT012 - the commit raises, at the end of the block
        async with data.transaction("redis") as tx:
            await tx.repository(Products).create(Product(id="new", name="new"))
            await tx.repository(Notes).delete("n")
            await tx.repository("signup_session").update_session("s", {"step": 2})
            await sessions.update_field("s", "other", 1)
    assert await products.get("new") is None
    assert await notes.get("n") is not None
    assert "step" not in (await sessions.get_session("s") or {})


async def test_sessions_in_a_transaction(data: DataLayer, redis: Any) -> None:
    sessions = data.repository(SignupSessionRepository)
    await sessions.create_session("s", {"list": [], "n": 2**60 + 1, "real": 1.0})
    await redis.pexpire("signup:s", 50_000)
    async with data.transaction("redis") as tx:
        mine = tx.repository("signup_session")
        assert [await mine.increment_attempt("s") for _ in range(3)] == [1, 2, 3]
        assert await sessions.increment_attempt("other") == 0
        assert await mine.get_session("other") is None
        assert await mine.create_session("t", {"a": {"b": []}})
        assert not await mine.create_session("t")
        assert await mine.record_validation("t", "email", True)
        assert await mine.session_exists("t")
        assert not await sessions.session_exists("t")
    assert 0 < await redis.pttl("signup:s") <= 50_000, "counting does not extend the time"
    assert 299_000 < await redis.pttl("signup:t") <= 300_000
    found = await sessions.get_session("s")
    assert found is not None
    assert (found["list"], found["n"], type(found["real"]), found["attempt_count"]) == ([], 2**60 + 1, float, 3)
    async with data.transaction("redis") as tx:
        mine = tx.repository("signup_session")
        assert await mine.refresh_ttl("s")
        assert await mine.extend_ttl("t", 1000)
        assert await mine.update_field("t", "a", 1)
        assert await mine.delete_session("s")
        assert await mine.create_session("s")
    assert await redis.pttl("signup:t") <= 300_000, "an update gives the usual time"
    assert (await sessions.get_session("s") or {})["attempt_count"] == 0


@pytest.mark.usefixtures("products")
async def test_the_time_to_live_is_that_of_the_last_word_on_it(data: DataLayer, redis: Any) -> None:
    sessions = data.repository(SignupSessionRepository)
    await sessions.create_session("s")
    for name in ("signup:s", "products:id-a", "products:id-b"):
        await redis.pexpire(name, 50_000)
    async with data.transaction("redis") as tx:
        await tx.repository("signup_session").update_field("s", "a", 1)
        await tx.repository("signup_session").increment_attempt("s")
        await tx.repository(Products).delete("id-a")
        await tx.repository(Products).create(Product(id="id-a", name="again"))
        await tx.repository(Products).update("id-b", {"sku": "z"})
    assert 299_000 < await redis.pttl("signup:s") <= 300_000
    assert await redis.pttl("products:id-a") == -1
    assert 0 < await redis.pttl("products:id-b") <= 50_000


async def test_nothing_is_sent_before_the_commit(products: Products, redis: Any) -> None:
    await redis.config_resetstat()
    async with products.transaction() as tx:
        await tx.create(Product(id="1", name="c"))
        await tx.update("id-a", {"stock": 3})
        await tx.delete("id-b")
        await tx.upsert(Product(id="2", name="d"))
        calls = await redis.info("commandstats")
        assert not {"cmdstat_set", "cmdstat_del", "cmdstat_evalsha", "cmdstat_mset", "cmdstat_msetnx"} & calls.keys()
    calls = await redis.info("commandstats")
    assert calls["cmdstat_evalsha"]["calls"] == 1


async def test_a_commit_that_cannot_be_sent_changes_nothing(products: Products, redis: Any) -> None:
    await redis.set("products:new", "x")
    await redis.delete("products:new")
    async with products.transaction() as tx:
        await tx.get("new")
        await redis.sadd("products:new", "no document")
        await tx.create(Product(id="other", name="c"))
        with pytest.raises(StoreUnavailableError):
            await tx.commit()
    assert await products.get("other") is None
    await redis.delete("products:new")
