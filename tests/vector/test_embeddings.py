"""The default provider, the registry of providers, and what an embedding tells a store."""

import asyncio
import logging
import socket
import sys
import threading
import traceback
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import wordllama  # type: ignore[import-untyped]
from langchain_core.embeddings import Embeddings

from app.config import load
from app.core.constants import EmbeddingType
from app.core.errors import AppError, ConfigurationError, MissingDependencyError, NotRegisteredError
from app.db.vector.embeddings import wordllama as provider
from app.db.vector.embeddings.embedding import EmbeddingFactory as OtherPath
from app.db.vector.embeddings.model import EmbeddingModel
from app.db.vector.embeddings.wordllama import WordLlamaEmbeddings
from app.db.vector.providers.embedding_provider import EmbeddingFactory, EmbeddingRegistry

from .planned import Planned


@pytest.fixture
def factory() -> EmbeddingFactory:
    return EmbeddingFactory(load({}))


async def test_the_default_is_wordllama_with_256_dimensions(factory: EmbeddingFactory) -> None:
    model = factory.embedding("default")
    assert factory.embedding() is model
    array = await model.array(["a duck", "a car"])
    assert array.shape == (2, 256)
    assert array.dtype == np.float32
    assert np.linalg.norm(array, axis=1) == pytest.approx([1, 1])
    assert (model.provider, model.model, model.dimension) == ("wordllama", "l2_supercat", 256)


async def test_it_is_langchains_embeddings_with_lists_outside() -> None:
    model = EmbeddingFactory(load({})).get_embedding_model(EmbeddingType.WORDLLAMA)
    assert isinstance(model, Embeddings)
    one = model.embed_query("a duck")
    assert isinstance(one, list)
    assert all(type(value) is float for value in one)
    assert len(one) == 256
    assert model.embed_documents(["a duck"]) == [one]
    assert model.embed_documents([]) == []
    assert await model.aembed_query("a duck") == one
    assert await model.aembed_documents(["a duck", "a car"]) == model.embed_documents(["a duck", "a car"])


async def test_async_embedding_does_not_block_the_loop() -> None:
    model = WordLlamaEmbeddings()
    texts = [f"some words about the number {n}, and more of them" for n in range(20_000)]
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.005)
            beats += 1

    heart = asyncio.create_task(beat())
    await model.aembed_documents(texts)
    heart.cancel()
    assert beats > 10


def test_a_text_has_one_vector_whatever_it_is_embedded_with() -> None:
    model = WordLlamaEmbeddings()
    texts = ["a duck", "word " * 3_000, "x", "ein längerer Text mit Umlauten"]
    together = model.embed_array(texts)
    for text, vector in zip(texts, together, strict=True):
        assert np.array_equal(model.embed_array([text])[0], vector)


def test_a_very_long_text_is_embedded_in_slices() -> None:
    model = WordLlamaEmbeddings()
    long = "the duck swims " * 10_000
    whole = provider._load_once(256).embed([long])[0]
    assert model.embed_array([long])[0] == pytest.approx(whole / np.linalg.norm(whole), abs=1e-4)


@pytest.mark.parametrize("text", ["", "  ", "\n", "a\0b", "\ud800"])
async def test_texts_without_meaning_are_refused(text: str) -> None:
    model = WordLlamaEmbeddings()
    with pytest.raises(ValueError, match="text 1"):
        model.embed_documents(["fine", text])
    with pytest.raises(ValueError, match="text 0"):
        await EmbeddingModel.of(Planned()).array([text])


def test_first_users_on_many_threads_load_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    real = wordllama.WordLlama.load

    def load(**options: Any) -> Any:
        loads.append(options)
        return real(**options)

    monkeypatch.setattr(wordllama.WordLlama, "load", load)
    provider._load.cache_clear()
    barrier = threading.Barrier(16)

    def first_use(_: int) -> int:
        barrier.wait()
        return len(WordLlamaEmbeddings().embed_query("duck"))

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(first_use, range(16))) == {256}
    assert len(loads) == 1
    assert loads[0]["disable_download"] is True


def test_it_needs_no_network_and_leaves_logging_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("it went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in [name for name in sys.modules if name.partition(".")[0] == "wordllama"]:
        monkeypatch.delitem(sys.modules, name)
    root = logging.getLogger()
    before = list(root.handlers), root.level
    monkeypatch.setattr(root, "handlers", [])
    provider._load.cache_clear()
    assert len(WordLlamaEmbeddings().embed_query("duck")) == 256
    assert (root.handlers, root.level) == ([], before[1])


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    provider._load.cache_clear()
    monkeypatch.setitem(sys.modules, "wordllama", None)
    with pytest.raises(MissingDependencyError, match=r"manystore\[embedded\]"):
        WordLlamaEmbeddings().embed_query("duck")


def test_a_shorter_dimension_and_no_other_model() -> None:
    settings = load({"embeddings": {"short": {"provider": "wordllama", "dimension": 64}}})
    model = EmbeddingFactory(settings).embedding("short")
    assert len(model.embed_query("duck")) == 64
    with pytest.raises(ConfigurationError, match="64, 128, 256"):
        provider.create({"dimension": 100})
    with pytest.raises(ConfigurationError, match="l2_supercat"):
        provider.create({"model": "other"})


def test_unknown_names_are_answered_with_what_there_is(factory: EmbeddingFactory) -> None:
    with pytest.raises(NotRegisteredError, match="did you mean 'default'"):
        factory.embedding("defualt")
    with pytest.raises(NotRegisteredError, match="did you mean 'wordllama'"):
        factory.get_embedding_model("wordlama")
    with pytest.raises(NotRegisteredError, match=r"there is: .*wordllama"):
        factory.get_embedding_model("voyage")


def test_a_provider_of_your_own_gets_its_settings() -> None:
    name = f"own_{uuid.uuid4().hex}"
    seen: list[Mapping[str, Any]] = []

    @EmbeddingFactory.register(name)
    def create(config: Mapping[str, Any]) -> Embeddings:
        seen.append(config)
        return Planned(size=7)

    entry = {"provider": name, "api_key": "s3cret", "model": "m", "options": {"region": "eu"}}
    factory = EmbeddingFactory(load({"embeddings": {"mine": entry}}))
    model = factory.get_embedding_model("mine")
    assert model is factory.embedding("mine").langchain
    assert model is factory.get_embedding_model(name)
    [config] = seen
    assert config[f"{name}_api_key"].get_secret_value() == "s3cret"
    assert (config["model"], config[f"{name}_model"], config["region"], config["device"]) == ("m", "m", "eu", None)
    assert "s3cret" not in repr(config)
    assert factory.get_embedding_model(name, {f"{name}_model": "flat"}) is not model
    assert seen[-1]["model"] == "flat"
    with pytest.raises(ConfigurationError, match="did you mean 'model'"):
        factory.get_embedding_model(name, {"modle": "x"})
    assert name in EmbeddingRegistry


def test_the_other_import_path_is_the_same() -> None:
    assert OtherPath is EmbeddingFactory


async def test_what_a_provider_returns_is_checked() -> None:
    class Short(Planned):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return super().embed_documents(texts)[1:]

    with pytest.raises(AppError, match="1 vectors for 2 texts"):
        await EmbeddingModel.of(Short()).array(["a", "b"])


@pytest.mark.parametrize("name", ["openai", "cohere"])
@pytest.mark.parametrize("key", ["sk-planted\n", "sk-planted…"])
def test_a_key_that_cannot_be_sent_is_refused_without_it(name: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = f"{name.upper()}_API_KEY"
    monkeypatch.setenv(variable, key)
    with pytest.raises(ConfigurationError, match=rf"embeddings\.{name}: {variable}: .*line break") as caught:
        EmbeddingFactory(load({})).get_embedding_model(name)
    assert "planted" not in "".join(traceback.format_exception(caught.value))
    for section in ({"embeddings": {"mine": {"provider": name}}}, {"connections": {"qdrant": {"url": "http://x"}}}):
        [entry] = section.values()
        [options] = entry.values()
        options["api_key"] = key
        with pytest.raises(ConfigurationError, match=r"api_key.*line break") as caught:
            load(section)
        assert "planted" not in "".join(traceback.format_exception(caught.value))
