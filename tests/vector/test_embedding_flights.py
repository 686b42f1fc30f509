"""Texts that many ask for at the same time, of which one embeds them; and servers that share nothing."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.core.errors import StoreUnavailableError
from app.db import DataLayer
from app.db.vector.embeddings.cached import CachedEmbeddings
from app.db.vector.embeddings.flights import Flights
from app.db.vector.embeddings.model import EmbeddingModel

from .apis import KEY, EmbeddingApi, Status, vector_of

NAME = "text-embedding-3-small"


@pytest.fixture
def api() -> Iterator[EmbeddingApi]:
    with EmbeddingApi() as server:
        yield server


@pytest.fixture
def config(api: EmbeddingApi, tmp_path: Path) -> dict[str, Any]:
    entry = {"provider": "openai", "api_key": KEY, "base_url": f"{api.url}/v1", "cache": True, "dimension": 8}
    return {"data_dir": str(tmp_path), "embeddings": {"default": entry}}


def asked(api: EmbeddingApi) -> list[str]:
    return sorted(text for request in api.requests for text in request["input"])


def none_is_under_way(model: EmbeddingModel) -> bool:
    embeddings = model.langchain
    assert isinstance(embeddings, CachedEmbeddings)
    return not vars(embeddings._flights)["_under_way"]


async def test_of_many_who_ask_for_a_text_one_embeds_it(api: EmbeddingApi, config: dict[str, Any]) -> None:
    api.latency = 0.1
    async with DataLayer.from_config(config) as data:
        model = data.embedding()
        arrays = await asyncio.gather(*(model.array(["a", "b"]) for _ in range(20)))
        assert asked(api) == ["a", "b"]
        assert all(each.tolist() == [vector_of("a", NAME), vector_of("b", NAME)] for each in arrays)
        assert (model.usage.texts, model.usage.cached) == (2, 38)
        api.requests.clear()
        # Each embeds what nobody else does, and waits for the rest, in whatever order they have it.
        overlapping = [["c", "d", "e"], ["e", "f", "d"], ["f", "c", "g"]]
        for texts, array in zip(overlapping, await asyncio.gather(*map(model.array, overlapping)), strict=True):
            assert array.tolist() == [vector_of(text, NAME) for text in texts]
        assert asked(api) == list("cdefg")
        await asyncio.gather(*(model.query_array("a") for _ in range(5)))
        assert asked(api) == list("acdefg")
        assert none_is_under_way(model)


async def test_threads_with_loops_of_their_own_wait_as_well(api: EmbeddingApi, config: dict[str, Any]) -> None:
    api.latency = 0.2
    async with DataLayer.from_config(config) as data:
        model = data.embedding()
        await model.load()
        runs = [asyncio.to_thread(asyncio.run, model.array(["a"])) for _ in range(4)]
        sync = asyncio.to_thread(model.embed_documents, ["a"])
        *arrays, listed = await asyncio.gather(*runs, sync, model.array(["a"]))
        assert asked(api) == ["a"]
        assert {tuple(np.asarray(each)[0]) for each in (*arrays, listed)} == {tuple(vector_of("a", NAME))}


async def test_where_one_fails_another_takes_over(api: EmbeddingApi, config: dict[str, Any]) -> None:
    api.latency = 0.05
    api.plan.append(Status(500))
    async with DataLayer.from_config(config) as data:
        model = data.embedding()
        results = await asyncio.gather(*(model.array(["a"]) for _ in range(10)), return_exceptions=True)
        failed = [each for each in results if isinstance(each, BaseException)]
        assert [type(each) for each in failed] == [StoreUnavailableError]
        assert asked(api) == ["a", "a"]
        api.requests.clear()
        # Where all fail, nobody waits for one after the other.
        api.plan += [Status(500)] * 10
        calls = (model.array(["b"]) for _ in range(10))
        failed = [each for each in await asyncio.gather(*calls, return_exceptions=True) if isinstance(each, Exception)]
        assert len(failed) == 10
        assert api.most_busy > 2
        assert none_is_under_way(model)


async def test_where_one_is_cancelled_another_takes_over(api: EmbeddingApi, config: dict[str, Any]) -> None:
    api.latency = 0.2
    async with DataLayer.from_config(config) as data:
        model = data.embedding()
        await model.load()
        first = asyncio.create_task(model.array(["a"]))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(model.array(["a"])) for _ in range(3)]
        await asyncio.sleep(0.05)
        others[0].cancel()  # who waits takes nobody along
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        for each in others[1:]:
            assert (await each).tolist() == [vector_of("a", NAME)]
        assert asked(api) == ["a", "a"]
        assert others[0].cancelled()
        assert none_is_under_way(model)


def test_a_fork_waits_for_nobody_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    flights: Flights[int] = Flights()
    mine, _ = flights.board(["a"])
    assert flights.board(["a"])[0] == {}
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        assert flights.board(["a"])[0]
    flights.land(mine, {"a": 1})
    assert flights.board(["a"])[0]


async def test_a_server_that_the_environment_names_shares_no_vectors(
    api: EmbeddingApi, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config["embedding_cache"] = {"connection": "sqlite"}
    del config["embeddings"]["default"]["base_url"]
    config["embeddings"]["local"] = {"provider": "ollama:x", "cache": True}
    with EmbeddingApi() as other:
        for name, server, count in (("one", api, 1), ("two", other, 1), ("one again", api, 1)):
            monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
            monkeypatch.setenv("OLLAMA_HOST", server.url)
            async with DataLayer.from_config(config) as data:
                await data.embedding().array(["a"])
                monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9")  # too late for a client that is made
                await data.embedding().array(["a"])
                local = data.embedding("local")
                await local.array(["a"])
                await local.langchain.embeddings._async_client._client.aclose()  # type: ignore[attr-defined]
            assert len(server.requests) == 2 * count, name


def test_coheres_variable_is_known_as_well(api: EmbeddingApi, tmp_path: Path) -> None:
    """It is read when cohere is imported, so in processes of their own."""
    code = """
import asyncio, sys
from app.db import DataLayer
async def main():
    config = {"data_dir": sys.argv[1], "connections": {"sqlite": {}}, "embedding_cache": {"connection": "sqlite"},
              "embeddings": {"default": {"provider": "cohere", "api_key": "k", "cache": True}}}
    async with DataLayer.from_config(config) as data:
        await data.embedding().array(["a"])
asyncio.run(main())
"""
    with EmbeddingApi() as other:
        for server in (api, other, api):
            environment = {**os.environ, "CO_API_URL": server.url}
            subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=environment)
        assert (len(api.requests), len(other.requests)) == (1, 1)
