"""How a DataLayer lives: loops, threads, being current, being closed, being forgotten."""

import asyncio
import gc
import threading
import warnings
import weakref
from pathlib import Path

import pytest
from langchain_core.documents import Document

from app.connections import ConnectionFactory, ConnectionType
from app.core import current
from app.core.constants import VectorDBType
from app.core.errors import ConfigurationError, NotRegisteredError
from app.db import DataLayer, RepositoryRegistry
from app.db.relational import get_db
from app.db.repositories.signup_session_repository import SignupSessionRepository
from app.db.repositories.user_repository import UserRepository
from app.db.vector.providers.db_provider import VectorStoreFactory
from app.db.vector.qdrant import QdrantVectorStore


def text(content: str) -> Document:
    return Document(page_content=content)


async def main_job(number: int) -> None:
    """The whole of it through calls that name no layer."""
    users, sessions = UserRepository(), SignupSessionRepository()
    store = VectorStoreFactory.get_vector_store(VectorDBType.QDRANT)
    assert await users.create_user(f"user{number}@example.com", f"user{number}", "Ann", "Other", "hash")
    assert await sessions.create_session(f"session{number}", {"step": "EMAIL"})
    assert await sessions.increment_attempt(f"session{number}") == 1
    assert len(await store.save_and_embed(None, [text(f"passage number {number}")])) == 1
    assert await store.search_similar("passage", k=1)


@pytest.fixture
def in_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MANYSTORE_CONFIG", raising=False)
    # The default of an earlier test lives in that test's directory, and one it left open would be meant here.
    monkeypatch.setattr(current, "_default", None)
    monkeypatch.setattr(current, "_open", weakref.WeakSet())
    return tmp_path


async def test_a_task_that_outlives_its_layer_opens_no_other_store(in_empty_directory: Path) -> None:
    is_closed = asyncio.Event()

    async def late() -> None:
        await is_closed.wait()
        with pytest.raises(ConfigurationError, match="closed"):
            await UserRepository().count()
        with pytest.raises(ConfigurationError, match="closed"):
            async with get_db():
                pass

    async with DataLayer.from_config({"data_dir": "own"}):
        assert await UserRepository().count() == 0
        task = asyncio.create_task(late())
    is_closed.set()
    await task
    # In a thread that knows nothing of the layer that was entered.
    await asyncio.get_running_loop().run_in_executor(None, asyncio.run, late())
    assert [each.name for each in in_empty_directory.iterdir()] == ["own"]


def test_asyncio_run_three_times_on_the_default(in_empty_directory: Path) -> None:
    for number in range(3):
        asyncio.run(main_job(number))

    async def count() -> tuple[int, int]:
        store = VectorStoreFactory.get_vector_store(VectorDBType.QDRANT)
        return await UserRepository().count(), await store.count()

    assert asyncio.run(count()) == (3, 3)
    assert (in_empty_directory / ".manystore").is_dir()


@pytest.mark.usefixtures("in_empty_directory")
def test_two_threads_with_a_loop_each_on_the_default() -> None:
    errors: list[BaseException] = []

    def run(first: int) -> None:
        try:
            for number in range(first, first + 3):
                asyncio.run(main_job(number))
        except BaseException as error:  # noqa: BLE001 - raised below, in the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(first,)) for first in (0, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors, errors
    assert asyncio.run(UserRepository().count()) == 6


@pytest.mark.usefixtures("in_empty_directory")
def test_one_instance_made_once_serves_loop_after_loop() -> None:
    users = UserRepository()
    for number in range(3):
        asyncio.run(users.create_user(f"u{number}@example.com", f"user{number}", "Ann", "Other", "hash"))
    assert asyncio.run(users.count()) == 3


@pytest.mark.usefixtures("in_empty_directory")
def test_the_default_closes_with_its_loop_silently() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(main_job(0))
        gc.collect()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith(("sqlite", "qdrant"))]


async def test_a_thousand_first_users_get_one_client(tmp_path: Path) -> None:
    async with DataLayer.from_config({"data_dir": str(tmp_path)}) as data:
        for name in ("sqlite", "qdrant"):
            clients = await asyncio.gather(*[data.connection(name).connect() for _ in range(1000)])
            assert len({id(client) for client in clients}) == 1


async def test_class_level_calls_mean_the_layer_in_context(tmp_path: Path) -> None:
    async with (
        DataLayer.from_config({"data_dir": str(tmp_path / "outer")}) as outer,
        DataLayer.from_config({"data_dir": str(tmp_path / "inner")}) as inner,
    ):
        await UserRepository().create_user("a@example.com", "user_a", "Ann", "Other", "hash")
        assert await inner.repository(UserRepository).count() == 1
        assert await outer.repository(UserRepository).count() == 0
        assert ConnectionFactory.get_connection_manager(ConnectionType.SQLITE) is inner.connection("sqlite")
        assert RepositoryRegistry.get("user") is inner.repository("user")


def test_the_one_open_layer_is_meant_where_no_context_is(tmp_path: Path) -> None:
    """As in a web server: the lifespan runs in a context that its handlers do not see."""

    async def serve() -> None:
        data = DataLayer.from_config({"data_dir": str(tmp_path)})
        await UserRepository().create_user("a@example.com", "user_a", "Ann", "Other", "hash")
        assert await data.repository(UserRepository).count() == 1
        await data.close()

    asyncio.run(serve())


def test_several_open_and_none_in_context_is_refused(tmp_path: Path) -> None:
    async def ambiguous() -> None:
        first = DataLayer.from_config({"data_dir": str(tmp_path / "a")})
        second = DataLayer.from_config({"data_dir": str(tmp_path / "b")})
        with pytest.raises(ConfigurationError, match="2 DataLayers are open"):
            await UserRepository().count()
        await first.close()
        assert await UserRepository().count() == 0
        await second.close()

    asyncio.run(ambiguous())


async def test_a_forgotten_layer_warns_and_lets_go(tmp_path: Path) -> None:
    data = DataLayer.from_config({"data_dir": str(tmp_path)})
    await data.repository(UserRepository).count()
    del data
    with pytest.warns(ResourceWarning, match="sqlite open: use `async with`"):
        gc.collect()
    async with DataLayer.from_config({"data_dir": str(tmp_path)}) as again:
        assert await again.repository(UserRepository).count() == 0


async def test_a_closed_layer_says_so(tmp_path: Path) -> None:
    async with DataLayer.from_config({"data_dir": str(tmp_path)}) as data:
        users = data.repository(UserRepository)
        await users.count()
    for use in (lambda: data.repository("user"), lambda: data.vector_store("documents"), data.embedding):
        with pytest.raises(ConfigurationError, match="closed"):
            use()
    with pytest.raises(ConfigurationError, match="closed"):
        await users.count()
    await data.close()


async def test_a_layer_used_on_two_loops_closes_both(tmp_path: Path) -> None:
    async with DataLayer.from_config({"data_dir": str(tmp_path)}) as data:
        users = data.repository(UserRepository)
        await users.count()
        ready, leave = threading.Event(), threading.Event()

        def other() -> None:
            async def use() -> None:
                await users.count()
                ready.set()
                await asyncio.to_thread(leave.wait)

            asyncio.run(use())

        thread = threading.Thread(target=other)
        thread.start()
        await asyncio.to_thread(ready.wait)
    leave.set()
    await asyncio.to_thread(thread.join)
    assert not [each.name for each in threading.enumerate() if each.name.startswith("sqlite")]


async def test_a_cancelled_first_user_harms_nobody(tmp_path: Path) -> None:
    async with DataLayer.from_config({"data_dir": str(tmp_path)}) as data:
        users = data.repository(UserRepository)
        first = asyncio.create_task(users.count())
        others = [asyncio.create_task(users.count()) for _ in range(50)]
        await asyncio.sleep(0)
        first.cancel()
        assert await asyncio.gather(*others) == [0] * 50


async def test_names_that_are_not_there(tmp_path: Path) -> None:
    async with DataLayer.from_config({"data_dir": str(tmp_path)}) as data:
        with pytest.raises(NotRegisteredError, match=r"'sqlit' \(did you mean 'sqlite'\?\); there is: qdrant, sqlite"):
            data.connection("sqlit")
        with pytest.raises(NotRegisteredError, match="did you mean 'user'"):
            data.repository("usr")
        with pytest.raises(NotRegisteredError, match="did you mean 'documents'"):
            data.vector_store("document")
        with pytest.raises(NotRegisteredError, match="default"):
            data.embedding("nothing")


async def test_the_same_object_for_a_name(tmp_path: Path) -> None:
    async with DataLayer.from_config({"data_dir": str(tmp_path)}) as data:
        assert data.repository("user") is data.repository("user")
        assert data.vector_store("documents") is data.vector_store("documents")
        assert data.embedding() is data.embedding("default")
        assert data.connection("sqlite") is data.connection(ConnectionType.SQLITE)
        assert isinstance(data.vector_store("documents"), QdrantVectorStore)


async def test_health_of_all_connections(tmp_path: Path) -> None:
    unset = {"url": "${MANYSTORE_TEST_NEVER_SET}"}
    settings = {"data_dir": str(tmp_path), "connections": {"sqlite": {}, "qdrant": {"url": "embedded"}, "redis": unset}}
    async with DataLayer.from_config(settings) as data:
        health = await data.health()
    assert health["sqlite"].healthy
    assert health["qdrant"].healthy
    assert not health["redis"].healthy
    assert "MANYSTORE_TEST_NEVER_SET" in health["redis"].detail
