"""`Depends(get_db)` in a real FastAPI application."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
import pytest
import sqlalchemy as sa
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse

from app.core.errors import DuplicateRecordError
from app.db import DataLayer
from app.db.relational import AsyncSession, Session, get_db

from .models import Author

Async = Annotated[AsyncSession, Depends(get_db)]
Sync = Annotated[Session, Depends(get_db.sync)]

app = FastAPI()


@app.post("/authors")
async def create(db: Async, email: str, *, fail: str = "") -> dict[str, Any]:
    assert isinstance(db, AsyncSession)
    db.add(author := Author(email=email))
    if fail == "flushed":
        await db.flush()
        raise HTTPException(418)
    if fail == "forgot":
        await db.flush()
        return {}
    await db.commit()
    if fail == "later":
        db.add(Author(email="later"))
        await db.flush()
        raise ZeroDivisionError
    return author.to_dict(mode="json")


@app.post("/sync")
def create_sync(db: Sync, email: str, *, fail: bool = False) -> dict[str, Any]:
    assert type(db) is Session
    db.add(author := Author(email=email))
    if fail:
        db.flush()
        raise HTTPException(418)
    db.commit()
    return author.to_dict(mode="json")


@app.get("/authors")
async def read(one: Async, two: Async) -> list[str]:
    assert one is two  # FastAPI's cache of dependencies
    return [*await one.scalars(sa.select(Author.email).order_by(Author.email))]


@app.get("/stream")
async def stream(db: Async) -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        for email in await db.scalars(sa.select(Author.email)):
            yield f"{email}\n"

    return StreamingResponse(lines())


@app.exception_handler(DuplicateRecordError)
async def duplicate(request: Request, error: DuplicateRecordError) -> JSONResponse:
    del request
    return JSONResponse({"taken": error.field}, 409)


@pytest.fixture
async def client(data: DataLayer) -> AsyncIterator[httpx.AsyncClient]:
    assert not data.closed
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def test_what_is_committed_stays(client: httpx.AsyncClient) -> None:
    made = await client.post("/authors?email=a")
    assert (made.status_code, made.json()["email"]) == (200, "a")
    assert (await client.post("/sync?email=b")).json()["email"] == "b"
    assert (await client.get("/authors")).json() == ["a", "b"]
    assert (await client.get("/stream")).text.split() == ["a", "b"]


@pytest.mark.parametrize(
    ("path", "status", "kept"),
    [
        ("/authors?email=a&fail=flushed", 418, []),
        ("/authors?email=a&fail=forgot", 200, []),
        ("/authors?email=a&fail=later", 500, ["a"]),
        ("/sync?email=a&fail=true", 418, []),
    ],
)
async def test_what_is_not_is_rolled_back(
    client: httpx.AsyncClient, data: DataLayer, path: str, status: int, kept: list[str]
) -> None:
    assert (await client.post(path)).status_code == status
    assert (await client.get("/authors")).json() == kept
    pools: list[Any] = [data.relational.engine.pool, data.relational.async_engine.pool]
    assert [each.checkedout() for each in pools] == [0, 0]


@pytest.mark.parametrize("path", ["/authors", "/sync"])
async def test_an_error_of_ours_reaches_its_handler(client: httpx.AsyncClient, path: str) -> None:
    await client.post("/authors?email=same")
    again = await client.post(f"{path}?email=same")
    assert (again.status_code, again.json()) == (409, {"taken": "email"})


async def test_requests_at_once_have_a_session_each(client: httpx.AsyncClient) -> None:
    paths = [f"/{'sync' if number % 2 else 'authors'}?email={number:02}" for number in range(20)]
    made = await asyncio.gather(*map(client.post, paths))
    assert {each.status_code for each in made} == {200}
    assert len((await client.get("/authors")).json()) == 20


async def test_no_parameter_of_a_request_reaches_the_session(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert [each["name"] for each in paths["/authors"]["post"]["parameters"]] == ["email", "fail"]
    assert "parameters" not in paths["/authors"]["get"]


async def test_a_test_may_put_another_in_its_place(client: httpx.AsyncClient) -> None:
    class Fake:
        async def scalars(self, query: object) -> list[str]:
            del query
            return ["fake"]

    app.dependency_overrides[get_db] = Fake
    try:
        assert (await client.get("/authors")).json() == ["fake"]
    finally:
        app.dependency_overrides.clear()
