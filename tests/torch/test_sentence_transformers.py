"""HuggingFace and Instructor on a model that the test builds: `make test-torch`."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.core.constants import EmbeddingType
from app.core.errors import ConfigurationError, InvalidChangeError
from app.db import DataLayer

SentenceTransformer: Any = pytest.importorskip(
    "sentence_transformers", reason="needs PyTorch: make test-torch"
).SentenceTransformer
# What LangChain's class had for the package that Instructor came with.
INSTRUCTOR_DOCUMENT = "Represent the document for retrieval: "
INSTRUCTOR_QUERY = "Represent the question for retrieving supporting documents: "

TEXTS = ["the duck swims", "a red car drives fast on water", "blue"]


def layer(tiny_model: Path, provider: str, **options: Any) -> DataLayer:
    entry = {"provider": provider, "model": str(tiny_model), "device": "cpu", **options}
    return DataLayer.from_config({"embeddings": {"local": entry}})


async def test_huggingface_gives_the_models_own_vectors(tiny_model: Path) -> None:
    async with layer(tiny_model, "huggingface", batch_size=2) as data:
        model = data.embedding("local")
        array = await model.array(TEXTS)
        own = SentenceTransformer(str(tiny_model), device="cpu")
        np.testing.assert_allclose(array, own.encode(TEXTS), atol=1e-6)
        assert array.dtype == np.float32
        assert (model.provider, model.model, model.dimension) == ("huggingface", str(tiny_model), 16)
        assert model.usage.texts == 3
        embeddings = data.embeddings.get_embedding_model(EmbeddingType.HUGGINGFACE)
        assert embeddings.embed_query("blue") == pytest.approx(array[2], abs=1e-6)
        assert await embeddings.aembed_documents(["blue"]) == [pytest.approx(array[2], abs=1e-6)]


async def test_prompts_of_the_settings_stand_before_the_texts(tiny_model: Path) -> None:
    prompts = {"document_prompt": "passage: ", "query_prompt": "query: "}
    async with layer(tiny_model, "huggingface", **prompts) as data:
        model = data.embedding("local")
        own = SentenceTransformer(str(tiny_model), device="cpu")
        [document] = await model.array(["blue"])
        query = await model.query_array("blue")
        np.testing.assert_allclose(document, own.encode("passage: blue"), atol=1e-6)
        np.testing.assert_allclose(query, own.encode("query: blue"), atol=1e-6)
        assert not np.allclose(query, document)


async def test_the_models_own_prompts_are_used(tiny_model: Path, tmp_path: Path) -> None:
    own = SentenceTransformer(str(tiny_model), device="cpu", prompts={"query": "query: ", "document": "passage: "})
    own.save(str(tmp_path / "prompted"))
    async with layer(tmp_path / "prompted", "huggingface") as data:
        model = data.embedding("local")
        np.testing.assert_allclose(await model.query_array("blue"), own.encode("query: blue"), atol=1e-6)
        np.testing.assert_allclose((await model.array(["blue"]))[0], own.encode("passage: blue"), atol=1e-6)


async def test_instructor_leaves_the_instruction_out_of_the_mean(tiny_model: Path) -> None:
    async with layer(tiny_model, "instructor") as data:
        model = data.embedding("local")
        own = SentenceTransformer(str(tiny_model), device="cpu")
        own.set_pooling_include_prompt(include_prompt=False)
        expected = own.encode("the duck swims", prompt=INSTRUCTOR_DOCUMENT)
        np.testing.assert_allclose((await model.array(["the duck swims"]))[0], expected, atol=1e-6)
        question = own.encode("the duck swims", prompt=INSTRUCTOR_QUERY)
        np.testing.assert_allclose(await model.query_array("the duck swims"), question, atol=1e-6)
        own.set_pooling_include_prompt(include_prompt=True)
        assert not np.allclose(expected, own.encode("the duck swims", prompt=INSTRUCTOR_DOCUMENT), atol=1e-3)


async def test_a_shorter_dimension(tiny_model: Path) -> None:
    async with layer(tiny_model, "huggingface", dimension=8) as data:
        assert (await data.embedding("local").array(TEXTS)).shape == (3, 8)


async def test_many_tasks_and_loops_at_once(tiny_model: Path) -> None:
    async with layer(tiny_model, "huggingface", batch_size=2) as data:
        model = data.embedding("local")
        expected = await model.array(TEXTS * 20)
        for array in await asyncio.gather(*(model.array(TEXTS * 20) for _ in range(8))):
            np.testing.assert_allclose(array, expected, atol=1e-5)
        elsewhere = await asyncio.to_thread(asyncio.run, model.array(TEXTS))
        np.testing.assert_allclose(elsewhere, expected[:3], atol=1e-5)


async def test_vectors_are_cached(tiny_model: Path) -> None:
    async with layer(tiny_model, "huggingface", cache=True) as data:
        model = data.embedding("local")
        first = await model.array(TEXTS)
        assert np.array_equal(await model.array(TEXTS), first)
        assert (model.usage.texts, model.usage.cached) == (3, 3)


async def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    async with layer(tmp_path / "nothing", "huggingface") as data:
        with pytest.raises(ConfigurationError, match=r"embeddings\.local: the model .*nothing"):
            await data.embedding("local").array(TEXTS)


async def test_a_text_of_nothing_is_refused(tiny_model: Path) -> None:
    async with layer(tiny_model, "huggingface") as data:
        with pytest.raises(InvalidChangeError, match="text 1"):
            await data.embedding("local").array(["blue", " "])
