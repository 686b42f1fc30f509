"""The embedding cache in process, in SQLite and in Redis."""

import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from langchain_core.embeddings import Embeddings

from app.config import load
from app.core.errors import AppError, ConfigurationError
from app.db import DataLayer
from app.db.vector.embeddings.cache_stores import TABLE
from app.db.vector.providers.embedding_provider import EmbeddingFactory, EmbeddingRegistry

from .planned import Planned

made: list[Planned] = []


def create(config: Any) -> Embeddings:
    made.append(Planned(size=config["dimension"] or 4))
    made[-1].model = config["model"] or "planned"
    return made[-1]


if "counted" not in EmbeddingRegistry:
    EmbeddingFactory.register("counted")(create)

Open = Callable[..., Any]


@pytest.fixture(params=["memory", "sqlite", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    config: dict[str, Any] = {"data_dir": str(tmp_path), "connections": {"sqlite": {"path": "app.db"}}}
    if request.param == "sqlite":
        config["embedding_cache"] = {"connection": "sqlite"}
    if request.param == "redis":
        server = request.getfixturevalue("redis_server")
        server.command("FLUSHALL")
        config["connections"]["redis"] = {"url": server.url}
        config["embedding_cache"] = {"connection": "redis"}
    return config


@pytest.fixture
async def layer() -> AsyncIterator[Open]:
    async with AsyncExitStack() as stack:

        async def enter(config: dict[str, Any], cache: dict[str, Any] | None = None, **entries: Any) -> DataLayer:
            made.clear()
            plain = {"provider": "counted", "cache": True}
            named = {name: {**plain, **entry} for name, entry in {"mine": {}, **entries}.items()}
            settings = {**config.get("embedding_cache", {}), **(cache or {})}
            whole = {**config, "embeddings": named, "embedding_cache": settings}
            return await stack.enter_async_context(DataLayer.from_config(whole))

        yield enter


def shared(place: dict[str, Any]) -> bool:
    return "embedding_cache" in place


def asked() -> list[str]:
    """Texts that were embedded since the last question."""
    texts = [text for planned in made for text in planned.asked]
    for planned in made:
        planned.asked.clear()
    return texts


async def test_a_text_is_embedded_once(place: dict[str, Any], layer: Open) -> None:
    data = await layer(place)
    model = data.embedding("mine")
    first = await model.array(["a", "b", "a"])
    assert asked() == ["a", "b"]
    second = await model.array(["c", "b", "a"])
    assert asked() == ["c"]
    assert np.array_equal(second[[2, 1, 2]], first)
    assert second.tolist() == np.asarray(Planned().embed_documents(["c", "b", "a"]), np.float32).tolist()
    assert (model.usage.texts, model.usage.cached) == (3, 2)
    assert (model.model, model.dimension) == ("planned", 4)
    embeddings = data.embeddings.get_embedding_model("mine")
    assert embeddings.embed_documents(["a"]) == await embeddings.aembed_documents(["a"]) == first[[0]].tolist()
    assert asked() == []
    await model.array([f"text {n % 7}" for n in range(2_500)])
    assert len(asked()) == 7
    assert model.usage.cached == 4  # and no text of one call twice
    again = (await layer(place)).embedding("mine")
    assert np.array_equal(await again.array(["a", "b", "a"]), first)
    assert asked() == ([] if shared(place) else ["a", "b"])


async def test_what_decides_the_vector_decides_the_key(place: dict[str, Any], layer: Open) -> None:
    others = {
        "other": {"model": "other"},
        "longer": {"dimension": 5},
        "elsewhere": {"base_url": "http://x"},
        "prompted": {"document_prompt": "p: "},
        "optional": {"options": {"o": "1"}},
    }
    data = await layer(place, same={}, **others)
    for name in ("mine", *others):
        await data.embedding(name).array(["a"])
        assert asked() == ["a"], name
        await data.embedding(name).array(["a"])
        assert asked() == [], name
    await data.embedding("same").array(["a"])
    assert asked() == []
    for _ in range(2):
        await data.embedding("mine").query_array("a")
    assert asked() == ["a"]  # a query may be embedded in another way than a document


async def test_the_oldest_go_when_there_are_too_many(place: dict[str, Any], layer: Open) -> None:
    model = (await layer(place, {"max_entries": 10})).embedding("mine")
    for n in range(25):
        await model.array([f"text {n}"])
    assert len(asked()) == 25
    await model.array([f"text {n}" for n in range(15, 25)])
    assert asked() == []
    await model.array([f"text {n}" for n in range(15)])
    assert len(asked()) == 15
    await model.array([f"many {n}" for n in range(50)])
    assert len(asked()) == 50
    await model.array([f"many {n}" for n in range(40, 50)])
    assert asked() == []


async def test_what_is_not_a_vector_is_embedded_again(place: dict[str, Any], layer: Open) -> None:
    if not shared(place):
        pytest.skip("nobody else writes into this process")
    data = await layer(place)
    model = data.embedding("mine")
    texts = [f"text {n}" for n in range(4)]
    first = await model.array(texts)
    asked()
    await spoil(data, "sqlite" if place["embedding_cache"]["connection"] == "sqlite" else "redis")
    assert np.array_equal(await model.array(texts), first)
    assert sorted(asked()) == texts
    assert np.array_equal(await model.array(texts), first)
    assert asked() == []


async def spoil(data: DataLayer, name: str) -> None:
    """Cut one value off, change a bit of the next, leave nothing of the third, and make the last another thing."""
    if name == "sqlite":
        manager = data.connection("sqlite")
        rows = await manager.execute_query(f"SELECT key, vector FROM {TABLE}")
        values = dict(rows)
    else:
        client = await data.connection("redis").connect()
        keys = await client.hkeys("{embeddings}vectors")
        got = await client.execute_command("HMGET", "{embeddings}vectors", *keys, NEVER_DECODE=True)
        values = dict(zip(keys, got, strict=True))
    changes: list[Callable[[bytes], bytes]] = [
        lambda value: value[:-4],
        lambda value: value[:-1] + bytes([value[-1] ^ 1]),
        lambda _: b"",
        lambda _: crc32(b"no floats").to_bytes(4, "big") + b"no floats",
    ]
    for (key, value), change in zip(values.items(), changes, strict=True):
        if name == "sqlite":
            await manager.execute_command(f"UPDATE {TABLE} SET vector = ? WHERE key = ?", (change(value), key))
        else:
            await client.hset("{embeddings}vectors", key, change(value))


async def test_nothing_is_kept_of_a_bad_answer(place: dict[str, Any], layer: Open) -> None:
    model = (await layer(place)).embedding("mine")
    await model.load()
    made[0].vectors["a"] = [float("nan")] * 4
    with pytest.raises(AppError, match="not finite"):
        await model.array(["a", "b"])
    made[0].vectors.clear()
    asked()
    assert np.isfinite(await model.array(["a", "b"])).all()
    assert asked() == ["a", "b"]


async def test_a_cache_that_is_away_makes_nothing_worse(
    tmp_path: Path, layer: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    place = {
        "data_dir": str(tmp_path),
        "connections": {"redis": {"url": "redis://127.0.0.1:1"}},
        "embedding_cache": {"connection": "redis"},
    }
    model = (await layer(place)).embedding("mine")
    for _ in range(3):
        assert (await model.array(["a"])).shape == (1, 4)
    assert asked() == ["a"] * 3
    assert caplog.text.count("the embedding cache failed") == 1  # and then it is left alone


async def test_a_place_that_is_anothers_makes_nothing_worse(
    place: dict[str, Any], layer: Open, caplog: pytest.LogCaptureFixture
) -> None:
    if not shared(place):
        pytest.skip("nobody else writes into this process")
    data = await layer(place)
    if place["embedding_cache"]["connection"] == "sqlite":
        await data.connection("sqlite").execute_command(f"CREATE TABLE {TABLE} (something TEXT)")
    else:
        await data.connection("redis").set("{embeddings}vectors", "something")
    assert (await data.embedding("mine").array(["a"])).shape == (1, 4)
    assert "the embedding cache failed" in caplog.text


def test_another_process_has_the_vectors(tmp_path: Path) -> None:
    code = """
import asyncio, sys
from app.db import DataLayer
async def main():
    config = {"data_dir": sys.argv[1], "connections": {"sqlite": {"path": "app.db"}},
              "embeddings": {"default": {"provider": "wordllama", "cache": True}},
              "embedding_cache": {"connection": "sqlite"}}
    async with DataLayer.from_config(config) as data:
        model = data.embedding()
        array = await model.array(["tea", "rye"])
        print(model.usage.texts, model.usage.cached, array.tobytes().hex())
asyncio.run(main())
"""
    first, second = (
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True)
        for _ in range(2)
    )
    assert (first.stdout.split()[:2], second.stdout.split()[:2]) == (["2", "0"], ["0", "2"])
    assert first.stdout.split()[2] == second.stdout.split()[2]


async def test_without_the_setting_nothing_is_kept(layer: Open, tmp_path: Path) -> None:
    model = (await layer({"data_dir": str(tmp_path)}, mine={"cache": False})).embedding("mine")
    await model.array(["a"])
    await model.array(["a"])
    assert asked() == ["a", "a"]
    assert (model.usage.texts, model.usage.cached) == (2, 0)


def test_the_cache_lives_on_redis_or_sqlite() -> None:
    with pytest.raises(ConfigurationError, match="Redis or SQLite"):
        load({"connections": {"qdrant": {"url": "embedded"}}, "embedding_cache": {"connection": "qdrant"}})
    with pytest.raises(ConfigurationError, match="no connection named 'redis'"):
        load({"embedding_cache": {"connection": "redis"}})
