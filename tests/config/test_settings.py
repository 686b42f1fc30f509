"""What the settings are: frozen, consistent, and the specification's flat keys understood."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr, ValidationError

from app.config import Settings, load
from app.config.settings import EmbeddingSettings, QdrantSettings, Section, SQLiteSettings
from app.core.constants import ConnectionType, Distance
from app.core.errors import ConfigurationError


def test_the_default_is_embedded() -> None:
    settings = Settings()
    assert settings.data_dir == Path(".manystore")
    assert settings.connections == {
        "sqlite": SQLiteSettings(path=Path("app.db")),
        "qdrant": QdrantSettings(url=SecretStr("embedded")),
    }
    assert {name: each.connection for name, each in settings.repositories.items()} == {
        "user": "sqlite",
        "signup_session": "sqlite",
    }
    assert settings.vector_stores["documents"].distance is Distance.COSINE
    assert settings.embeddings["default"].provider == "wordllama"


def test_settings_cannot_be_assigned() -> None:
    settings = load({"connections": {"postgres": {"url": "postgresql://h/db"}}})
    parts: list[BaseModel] = [settings, settings.connections["postgres"], *settings.embeddings.values()]
    for part in parts:
        for field in type(part).model_fields:
            with pytest.raises(ValidationError, match="frozen"):
                setattr(part, field, None)


def test_the_name_stands_for_the_type() -> None:
    settings = load({"connections": dict.fromkeys(ConnectionType)})
    assert {name: section.type for name, section in settings.connections.items()} == {n: n for n in ConnectionType}
    settings = load({"connections": {"redis": {"type": "sqlite"}, "replica": {"type": "postgres"}}})
    assert [section.type for section in settings.connections.values()] == ["sqlite", "postgres"]
    assert load({"embeddings": {"openai": None}}).embeddings["openai"].provider == "openai"


def test_a_section_left_out_has_the_embedded_default() -> None:
    settings = load({"data_dir": "here"})
    assert settings == Settings(data_dir=Path("here"))
    settings = load({"embeddings": {"default": {"provider": "mine"}}})
    assert settings.connections == Settings().connections
    assert settings.vector_stores == Settings().vector_stores


def test_with_connections_given_nothing_is_placed_silently() -> None:
    settings = load({"connections": {"postgres": {"url": "postgresql://h/db"}}})
    assert settings.repositories == {}
    assert settings.vector_stores == {}
    settings = load({"connections": {"sqlite": None, "qdrant": None}})
    assert settings.repositories == {}
    assert settings.vector_stores == Settings().vector_stores


def test_a_default_store_needs_the_default_model() -> None:
    assert load({"embeddings": {"openai": {"model": "m"}}}).vector_stores == {}


@pytest.mark.parametrize(
    "source",
    [
        {"repositories": {"user": {"connection": "nowhere"}}},
        {"vector_stores": {"d": {"connection": "nowhere"}}},
        {"vector_stores": {"d": {"connection": "qdrant", "embedding": "nowhere"}}},
        {"connections": {}, "repositories": {"user": {"connection": "sqlite"}}},
    ],
)
def test_references_lead_somewhere(source: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="named"):
        load(source)


def test_the_flat_keys_of_embeddings() -> None:
    embeddings = load(
        {
            "embeddings": {
                "openai_api_key": "sk-1",
                "openai_model": "text-embedding-3-small",
                "huggingface_model": "all-MiniLM-L6-v2",
                "instructor_model": "instructor-large",
                "cohere_api_key": "co-1",
                "device": "cpu",
                "batch_size": 32,
            }
        }
    ).embeddings
    assert embeddings == {
        "default": EmbeddingSettings(provider="wordllama"),
        "openai": EmbeddingSettings(provider="openai", api_key=SecretStr("sk-1"), model="text-embedding-3-small"),
        "huggingface": EmbeddingSettings(provider="huggingface", model="all-MiniLM-L6-v2", device="cpu", batch_size=32),
        "instructor": EmbeddingSettings(provider="instructor", model="instructor-large", device="cpu", batch_size=32),
        "cohere": EmbeddingSettings(provider="cohere", api_key=SecretStr("co-1")),
    }


def test_flat_keys_beside_entries() -> None:
    embeddings = load(
        {
            "embeddings": {
                "default": {"provider": "openai", "model": "m"},
                "huggingface": {"model": "own", "device": "cuda"},
                "huggingface_model": "flat",
                "device": "cpu",
                "batch_size": "8",
            }
        }
    ).embeddings
    assert embeddings["default"].provider == "openai"
    assert embeddings["huggingface"] == EmbeddingSettings(
        provider="huggingface", model="own", device="cuda", batch_size=8
    )
    assert "instructor" not in embeddings, "device alone asks for no provider"
    with pytest.raises(ConfigurationError, match=r"embeddings\.openai"):
        load({"embeddings": {"openai": "text", "openai_model": "m"}})


def test_every_field_is_described() -> None:
    """The configuration reference is made of these descriptions."""
    undescribed = [
        f"{section.__name__}.{name}"
        for section in Section.__subclasses__()
        for name, field in section.model_fields.items()
        if not field.description and name not in {"type", "pool"} and section is not Settings
    ]
    assert undescribed == []
