"""How much a write to PostgreSQL sends at once, and in which order."""

import asyncio

import pytest

from app.connections.postgres import PostgresConnectionManager

from ..planned import doc
from .stores import store_on


async def test_writers_of_the_same_rows_wait_for_each_other_in_one_order(manager: PostgresConnectionManager) -> None:
    stores = [store_on(manager) for _ in range(4)]
    for number in (2_000, 150, 150):  # by COPY, and by one statement
        documents = [doc("text", {}, f"{number} {n:04}") for n in range(number)]
        orders = (documents, documents[::-1]) * 2
        await asyncio.gather(*(store.save_and_embed(None, order) for store, order in zip(stores, orders, strict=True)))
        assert await stores[0].count({}) == 2_000 + (number < 2_000) * number


@pytest.mark.parametrize("indexed", [False, True])
async def test_an_exchange_has_few_rows_where_an_index_takes_time_for_each(
    manager: PostgresConnectionManager, *, indexed: bool
) -> None:
    store = store_on(manager)
    await store.save_and_embed(None, [doc("first")])
    if indexed:
        await store.engine.create_index()
    await manager.execute_command("CREATE TABLE exchanges (rows int)")
    await manager.execute_command(
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN INSERT INTO exchanges SELECT count(*) FROM new HAVING count(*) > 0; RETURN NULL; END'"
    )
    for operation in ("INSERT", "UPDATE"):
        await manager.execute_command(
            f"CREATE TRIGGER note_{operation} AFTER {operation} ON documents REFERENCING NEW TABLE AS new "
            "FOR EACH STATEMENT EXECUTE FUNCTION note()"
        )

    async def exchanges() -> list[int]:
        return [row[0] for row in await manager.execute_query("DELETE FROM exchanges RETURNING rows")]

    texts = {f"{n:03}": f"text {n}" for n in range(500)}
    documents = [doc(text, {"document_id": "d"}, row_id) for row_id, text in texts.items()]
    in_parts = [400, 100]
    for _ in ("new", "there"):
        await store.save_and_embed(None, documents)
        assert await exchanges() == (in_parts if indexed else [500])
    await store.re_embed_document("d", documents)
    assert await exchanges() == (in_parts if indexed else [500])
    await store.re_embed_document("d")
    assert await exchanges() == in_parts
    assert await store.update_metadata_where({"document_id": "d"}, {"changed": True}) == 500
    assert await exchanges() == in_parts
