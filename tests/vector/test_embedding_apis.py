"""The real clients of OpenAI and Cohere against a server that speaks their APIs, well and badly."""

import asyncio
import logging
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from app.config import load
from app.core.constants import EmbeddingType
from app.core.errors import (
    AppError,
    ConfigurationError,
    DeadlineExceededError,
    DimensionMismatchError,
    InvalidChangeError,
    MissingDependencyError,
    NotRegisteredError,
    StoreUnavailableError,
)
from app.core.registry import import_target
from app.db import DataLayer
from app.db.vector.embeddings import batches
from app.db.vector.embeddings.batches import ATTEMPTS, BatchedEmbeddings, within
from app.db.vector.embeddings.model import EmbeddingModel
from app.db.vector.providers.embedding_provider import EmbeddingFactory

from .apis import KEY, EmbeddingApi, Status, Trouble, vector_of

PROVIDERS = {
    "openai": ("/v1", "text-embedding-3-small", "", ""),
    "cohere": ("", "embed-v4.0", "search_document", "search_query"),
}

Made = Callable[..., EmbeddingModel]


@pytest.fixture
def api() -> Iterator[EmbeddingApi]:
    with EmbeddingApi() as server:
        yield server


@pytest.fixture(params=PROVIDERS)
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(api: EmbeddingApi, provider: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    for variable in ("OPENAI_API_KEY", "COHERE_API_KEY", "CO_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    made: list[DataLayer] = []

    def model(**options: Any) -> EmbeddingModel:
        address = f"{api.url}{PROVIDERS[provider][0]}"
        entry = {"provider": provider, "api_key": KEY, "base_url": address, **options}
        made.append(DataLayer.from_config({"embeddings": {"remote": entry}}))
        return made[-1].embedding("remote")

    yield model
    for layer in made:
        asyncio.run(layer.close())


async def test_texts_and_queries_are_embedded(api: EmbeddingApi, make: Made, provider: str) -> None:
    _, name, document, query = PROVIDERS[provider]
    model = make()
    texts = ["a duck", "a red car", "Grüße"]
    array = await model.array(texts)
    assert array.dtype == np.float32
    assert array.tolist() == [vector_of(text, name, document) for text in texts]
    assert (await model.query_array("a duck")).tolist() == vector_of("a duck", name, query)
    assert (model.provider, model.model, model.dimension) == (provider, name, 8)
    assert (model.usage.texts, model.usage.requests, model.usage.tokens) == (4, 2, 8)
    assert api.keys == {f"Bearer {KEY}"}
    assert (await model.array([])).shape == (0, 8)


async def test_langchains_methods_work_in_a_running_loop_and_on_many(make: Made) -> None:
    model = make()
    embeddings = model.langchain
    assert embeddings.embed_documents(["a", "b"]) == await embeddings.aembed_documents(["a", "b"])
    assert embeddings.embed_query("a") == await embeddings.aembed_query("a")
    runs = [asyncio.to_thread(asyncio.run, model.query_array("a")) for _ in range(3)]
    assert {tuple(row) for row in await asyncio.gather(*runs)} == {tuple(embeddings.embed_query("a"))}


async def test_a_shorter_dimension_and_another_model(make: Made, provider: str) -> None:
    model = make(model="other", dimension=4)
    assert (await model.array(["x"])).tolist() == [vector_of("x", "other", PROVIDERS[provider][2], 4)]
    assert model.usage.requests == 1
    silent = make(model="other", dimension=40)
    with pytest.raises(
        DimensionMismatchError, match=r"embeddings\.remote: vector 0 has 32 dimensions, 40 are expected"
    ):
        await silent.array(["x"])


async def test_many_texts_go_in_batches_and_some_at_once(api: EmbeddingApi, make: Made, provider: str) -> None:
    api.latency = 0.05
    texts = [f"text {n}" for n in range(5_000 if provider == "openai" else 480)]
    array = await make(concurrency=2).array(texts)
    assert array.tolist() == [vector_of(text, *PROVIDERS[provider][1:3]) for text in texts]
    assert len(api.requests) == (3 if provider == "openai" else 5)
    assert api.most_busy == 2
    api.requests.clear()
    small = make(batch_size=10, concurrency=2)
    await asyncio.gather(*(small.array(texts[:25]) for _ in range(3)))
    assert len(api.requests) == 9
    assert api.most_busy == 2  # of the process, not of each call


async def test_a_rate_limit_is_waited_for_by_all(api: EmbeddingApi, make: Made) -> None:
    model = make(batch_size=1, concurrency=2)
    api.plan.append(Status(429, {"Retry-After": "1"}))
    api.latency = 0.02
    began = time.monotonic()
    assert (await model.array(list("abcdef"))).shape == (6, 8)
    assert time.monotonic() - began >= 1
    # Those that were on their way, and then nothing for a second.
    assert len([at for at in api.times if at - api.times[0] < 0.9]) <= 3
    assert (len(api.requests), model.usage.waits, model.usage.requests) == (7, 1, 6)


async def test_a_rate_limit_is_waited_for_by_calls_that_wait_for_a_thread(api: EmbeddingApi, make: Made) -> None:
    model = make(concurrency=2)
    api.plan.extend([Status(429, {"Retry-After": "1"})] * 2)
    api.latency = 0.02
    await asyncio.gather(*(model.array([text]) for text in "abcdefghij"))
    assert len([at for at in api.times if at - api.times[0] < 0.9]) <= 3
    assert (len(api.requests), model.usage.waits) == (12, 2)


async def test_a_rate_limit_without_a_time_is_backed_off_from(
    api: EmbeddingApi, make: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_FIRST_WAIT", 0.02)
    api.plan.extend([Status(429)] * 3)
    model = make()
    assert (await model.array(["a"])).shape == (1, 8)
    gaps = np.diff(api.times)
    assert gaps[0] >= 0.02
    assert gaps[1] >= 0.04
    assert gaps[2] >= 0.08
    api.requests.clear()
    api.plan.extend([Status(429, {"retry-after-ms": "1"})] * 100)
    with pytest.raises(StoreUnavailableError, match=r"embeddings\.remote: the provider limits the rate"):
        await model.array(["a"])
    assert len(api.requests) == ATTEMPTS


async def test_what_waiting_does_not_help_is_not_waited_for(api: EmbeddingApi, make: Made) -> None:
    api.plan.append(Status(429, {"Retry-After": "3600"}))
    with pytest.raises(StoreUnavailableError, match="3600 s"):
        await make().array(["a"])
    assert len(api.requests) == 1


REFUSALS = {400: InvalidChangeError, 401: ConfigurationError, 404: ConfigurationError, 422: InvalidChangeError}


@pytest.mark.parametrize("status", [*REFUSALS, 500, 503])
async def test_other_refusals_are_errors_at_once(
    api: EmbeddingApi, make: Made, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    api.plan.extend([Status(status, error=f"refused {KEY}")] * 9)
    model = make()
    expected = REFUSALS.get(status, StoreUnavailableError)
    with pytest.raises(expected, match=rf"embeddings\.remote: .*HTTP {status}") as raised:
        await model.array(["a"])
    assert len(api.requests) == 1
    assert KEY not in str(raised.value)
    shown = "".join(traceback.format_exception(raised.value)) if status == 401 else ""
    assert KEY not in f"{shown} {model!r} {model.langchain!r} {vars(model)} {caplog.text}"


async def test_a_dropped_connection_is_tried_once_more(api: EmbeddingApi, make: Made) -> None:
    model = make()
    api.plan.append("drop")
    assert (await model.array(["a"])).shape == (1, 8)
    assert len(api.requests) == 2
    api.plan.extend(["drop", "drop"])
    with pytest.raises(StoreUnavailableError, match="hung up"):
        await model.array(["a"])
    assert len(api.requests) == 4
    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        await make(base_url="http://127.0.0.1:1").array(["a"])


@pytest.mark.parametrize(
    ("trouble", "error", "words"),
    [
        ("short", AppError, "2 vectors came back for 3 texts"),
        ("nan", InvalidChangeError, "vector 2 has a number that is not finite"),
        ("ragged", DimensionMismatchError, "vector 2 has 9 dimensions, the others 8"),
        ("garbage", AppError, "not one of"),
    ],
)
async def test_a_bad_answer_is_refused(
    api: EmbeddingApi, make: Made, trouble: Trouble, error: type[AppError], words: str
) -> None:
    api.plan.append(trouble)
    with pytest.raises(error, match=words):
        await make().array(["a", "b", "c"])
    assert len(api.requests) == 1


async def test_a_silent_provider_is_waited_for_as_long_as_the_settings_say(api: EmbeddingApi, make: Made) -> None:
    api.plan.append("silent")
    with pytest.raises(DeadlineExceededError, match="timeout"):
        await make(timeout=0.2).array(["a"])
    assert len(api.requests) == 1


async def test_cancelling_sends_nothing_more(api: EmbeddingApi, make: Made) -> None:
    api.latency = 0.05
    model = make(batch_size=1, concurrency=2)
    embedding = asyncio.create_task(model.array([str(n) for n in range(100)]))
    await asyncio.sleep(0.3)
    embedding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await embedding
    await asyncio.sleep(0.1)
    sent = len(api.requests)
    await asyncio.sleep(0.2)
    assert 0 < sent == len(api.requests) < 50


async def test_a_failure_ends_the_other_requests(api: EmbeddingApi, make: Made) -> None:
    api.latency = 0.02
    api.plan.extend(["short"])
    with pytest.raises(AppError):
        await make(batch_size=2, concurrency=2).array([str(n) for n in range(200)])
    await asyncio.sleep(0.1)
    assert len(api.requests) <= 6


@pytest.mark.usefixtures("leaves_nothing")
async def test_closing_the_layer_closes_the_client(api: EmbeddingApi, provider: str) -> None:
    entry = {"provider": provider, "api_key": KEY, "base_url": f"{api.url}{PROVIDERS[provider][0]}"}
    async with DataLayer.from_config({"embeddings": {"remote": entry}}) as data:
        model = data.embedding("remote")
        await model.array(["a"])
    with pytest.raises(ConfigurationError, match="closed"):
        await model.array(["a"])


async def test_closing_the_layer_is_no_cancellation(api: EmbeddingApi, make: Made) -> None:
    model = make(concurrency=1)
    api.latency = 0.2
    api.plan.append("drop")  # and so it would be sent again
    asked = [asyncio.ensure_future(model.array([text])) for text in "abc"]
    while not api.requests:  # noqa: ASYNC110 - it comes in a thread
        await asyncio.sleep(0.01)
    embeddings = model.langchain
    assert isinstance(embeddings, BatchedEmbeddings)
    embeddings.close()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(each) for each in answers} == {ConfigurationError}


def test_a_missing_key_names_its_variable(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_API_KEY", "COHERE_API_KEY", "CO_API_KEY", "MY_KEY"):
        monkeypatch.delenv(variable, raising=False)
    factory = EmbeddingFactory(DataLayer.from_config({"embeddings": {}}).settings)
    with pytest.raises(ConfigurationError, match=rf"embeddings\.{provider} .*{provider.upper()}_API_KEY"):
        factory.get_embedding_model(EmbeddingType(provider))
    settings = DataLayer.from_config({"embeddings": {"mine": {"provider": provider, "api_key": "${MY_KEY}"}}}).settings
    with pytest.raises(ConfigurationError, match=r"embeddings\.mine .*MY_KEY"):
        EmbeddingFactory(settings).get_embedding_model("mine")


async def test_the_environments_key_is_not_for_other_addresses(
    api: EmbeddingApi, make: Made, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{provider.upper()}_API_KEY", "sk-of-the-environment")
    await make(api_key=None).array(["a"])
    assert api.keys == {"Bearer none"}


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("openai", "openai", "openai"),
        ("cohere", "cohere", "cohere"),
        ("langchain", "langchain.embeddings", "langchain"),
    ],
)
def test_a_missing_package_names_the_extra(
    module: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, f"app.db.vector.embeddings.{module}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=rf"manystore\[{extra}\]"):
        import_target(f".db.vector.embeddings.{module}:create")


async def test_openais_limit_of_tokens_is_kept_without_a_tokenizer(api: EmbeddingApi) -> None:
    entry = {"provider": "openai", "api_key": KEY, "base_url": f"{api.url}/v1"}
    async with DataLayer.from_config({"embeddings": {"remote": entry}}) as data:
        assert (await data.embedding("remote").array(["é" * 500] * 700)).shape == (700, 8)
    assert sorted(len(request["input"]) for request in api.requests) == [100, 300, 300]


def test_a_missing_pytorch_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    for kind in (EmbeddingType.HUGGINGFACE, EmbeddingType.INSTRUCTOR):
        with pytest.raises(MissingDependencyError, match=r"manystore\[huggingface\]"):
            EmbeddingFactory(load({})).get_embedding_model(kind)


async def test_a_used_up_quota_is_not_waited_for(api: EmbeddingApi) -> None:
    entry = {"provider": "openai", "api_key": KEY, "base_url": f"{api.url}/v1"}
    async with DataLayer.from_config({"embeddings": {"remote": entry}}) as data:
        api.plan.append(Status(429, error="insufficient_quota"))
        with pytest.raises(StoreUnavailableError, match=r"used up.*insufficient_quota"):
            await data.embedding("remote").array(["a"])
    assert len(api.requests) == 1


async def test_the_specifications_flat_keys(api: EmbeddingApi, make: Made, provider: str) -> None:
    del make
    path = PROVIDERS[provider][0]
    config = {f"{provider}_api_key": KEY, f"{provider}_model": "m", "base_url": f"{api.url}{path}", "batch_size": 1}
    async with DataLayer.from_config({"embeddings": {}}) as data:
        embeddings = data.embeddings.get_embedding_model(EmbeddingType(provider), config)
        assert await embeddings.aembed_documents(["a", "b"]) == [
            vector_of(text, "m", PROVIDERS[provider][2]) for text in "ab"
        ]
    assert (len(api.requests), api.keys) == (2, {f"Bearer {KEY}"})


FORK = """
import asyncio, os, sys
from app.db import DataLayer
entry = {"provider": sys.argv[1], "api_key": "k", "base_url": sys.argv[2], "timeout": 5}
data = DataLayer.from_config({"embeddings": {"remote": entry}})
model = data.embedding("remote")
first = asyncio.run(model.array(["a"]))
child = os.fork()
if not child:
    assert (asyncio.run(asyncio.wait_for(model.array(["a"]), 10)) == first).all()
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert (asyncio.run(model.array(["a"])) == first).all()
asyncio.run(data.close())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_has_a_client_of_its_own(api: EmbeddingApi, provider: str) -> None:
    subprocess.run([sys.executable, "-c", FORK, provider, f"{api.url}{PROVIDERS[provider][0]}"], check=True, timeout=60)
    assert len(api.requests) == 3


def test_batches_are_as_few_as_the_limits_allow() -> None:
    assert list(within(["aa", "b", "cccc", "dddddd", "e"], 2, 5)) == [["aa", "b"], ["cccc"], ["dddddd"], ["e"]]
    assert list(within(["é", "é", "é"], 9, 4)) == [["é", "é"], ["é"]]
    assert list(within(list("abc"), 2, None)) == [["a", "b"], ["c"]]
    assert list(within([], 2, 5)) == []


async def test_any_provider_of_langchains(api: EmbeddingApi) -> None:
    entry = {"provider": "ollama:nomic-embed-text:v1.5", "base_url": api.url}
    async with DataLayer.from_config({"embeddings": {"local": entry, "bad": {"provider": "ollama:x"}}}) as data:
        model = data.embedding("local")
        assert (await model.array(["a", "b"])).tolist() == [vector_of(text, "nomic-embed-text:v1.5") for text in "ab"]
        assert (model.provider, model.model) == ("ollama", "nomic-embed-text:v1.5")
        assert data.embeddings.get_embedding_model("ollama:nomic-embed-text:v1.5") is model.langchain
        assert (model.usage.texts, model.usage.requests) == (2, 1)
        with pytest.raises(MissingDependencyError, match="langchain-mistralai"):
            data.embeddings.get_embedding_model("mistralai:mistral-embed")
        with pytest.raises(NotRegisteredError, match=r"no embedding provider named 'opnai'.*did you mean 'openai'"):
            data.embeddings.get_embedding_model("opnai:m")
        settings = {"model": "m", "options": {"nonsense": KEY}}
        with pytest.raises(ConfigurationError, match="nonsense") as raised:
            data.embeddings.get_embedding_model("ollama", settings)
        assert KEY not in "".join(traceback.format_exception(raised.value))
        await model.langchain._async_client._client.aclose()  # type: ignore[attr-defined]  # LangChain never does


async def test_a_registered_provider_goes_before_langchains(api: EmbeddingApi) -> None:
    entry = {"provider": "openai:text-embedding-3-large", "api_key": KEY, "base_url": f"{api.url}/v1"}
    async with DataLayer.from_config({"embeddings": {"large": entry}}) as data:
        model = data.embedding("large")
        assert (await model.array(["a"])).tolist() == [vector_of("a", "text-embedding-3-large")]
        assert (model.provider, model.model) == ("openai", "text-embedding-3-large")
        assert data.embeddings.get_embedding_model(EmbeddingType.OPENAI) is model.langchain
    with pytest.raises(ConfigurationError, match="which is it"):
        EmbeddingFactory(data.settings).get_embedding_model("openai:a", {"model": "b"})
