"""Which embedding providers there are, and the configured ones of one DataLayer."""

import json
import threading
import weakref
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError

from ....config.settings import EmbeddingSettings, Settings
from ....connections.factory import ConnectionFactory
from ....core.constants import ConnectionType, EmbeddingType
from ....core.current import on_current
from ....core.errors import ConfigurationError, MissingDependencyError, NotRegisteredError
from ....core.registry import Registry, import_target
from ..embeddings.cache import KeptVectors, MemoryVectors, VectorCache
from ..embeddings.model import EmbeddingModel, told_dimension, told_model

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

Creator = Callable[[Mapping[str, Any]], "Embeddings"]
"""Makes a provider from its settings. The keys are `name` (of the entry), those of `EmbeddingSettings`, those under
`options`, and the specification's flat ones (`openai_api_key`, `openai_model`, …); what is not set is None, and keys
are SecretStr.
"""

_HERE = ".db.vector.embeddings"
_LANGCHAIN = f"{_HERE}.langchain:create"

EmbeddingRegistry: Registry[Creator] = Registry(
    "embedding provider",
    {
        EmbeddingType.OPENAI: f"{_HERE}.openai:create",
        EmbeddingType.HUGGINGFACE: f"{_HERE}.huggingface:create",
        EmbeddingType.INSTRUCTOR: f"{_HERE}.huggingface:create_instructor",
        EmbeddingType.COHERE: f"{_HERE}.cohere:create",
        EmbeddingType.WORDLLAMA: f"{_HERE}.wordllama:create",
    },
    entry_point_group="manystore.embeddings",
)


class EmbeddingFactory:
    """The embeddings of one DataLayer. Called on the class, each method acts on the current DataLayer's."""

    _layer_attribute = "embeddings"

    def __init__(self, settings: Settings, connections: ConnectionFactory | None = None) -> None:
        self._settings = settings
        self._connections = connections
        self._models: dict[str, EmbeddingModel] = {}
        self._made: weakref.WeakSet[EmbeddingModel] = weakref.WeakSet()
        self._lock = threading.Lock()

    @staticmethod
    def register(name: str) -> Callable[[Creator], Creator]:
        """Register a provider for the whole process: a function of its settings that returns Embeddings."""
        return EmbeddingRegistry.register(name)

    @on_current
    def embedding(self, name: str = "default") -> EmbeddingModel:
        """The entry of that name under `embeddings`: the same object at each call."""
        with self._lock:
            model = self._models.get(name)
            if model is None:
                section = self._settings.embeddings.get(name)
                if section is None:
                    raise NotRegisteredError.for_name("embedding", str(name), self._settings.embeddings)
                model = self._models[name] = self._model(str(name), section)
        return model

    @on_current
    def get_embedding_model(
        self, embedding_type: str, embedding_config: "EmbeddingSettings | Mapping[str, Any] | None" = None
    ) -> "Embeddings":
        """LangChain Embeddings of a provider, or of an entry by its name.

        Without a config they are those of the first entry with that provider, else the provider's own defaults.
        """
        kind = str(embedding_type)
        if embedding_config is not None:
            return self._model(kind, _section(kind, embedding_config)).langchain
        entries = self._settings.embeddings
        if kind in entries:
            return self.embedding(kind).langchain
        section = _split(EmbeddingSettings(provider=kind))
        for name, entry in entries.items():
            configured = _split(entry)
            if configured.provider == section.provider and section.model in (None, configured.model):
                return self.embedding(name).langchain
        return self._model(kind, section).langchain

    @on_current
    async def close_all(self) -> None:
        """Close the clients of all providers."""
        for model in list(self._made):
            model.close()

    def _model(self, name: str, section: EmbeddingSettings) -> EmbeddingModel:
        section = _split(section)
        create = _creator(section)
        config = {
            **_config(section),
            "name": name,
            "api_key_variable": self._settings.unset_variable("embeddings", name, "api_key"),
        }
        model = EmbeddingModel(
            lambda: self._cached(create(config), section),
            name=name,
            provider=section.provider,
            model=section.model,
            dimension=section.dimension,
        )
        self._made.add(model)
        return model

    def _cached(self, embeddings: "Embeddings", section: EmbeddingSettings) -> "Embeddings":
        if not section.cache:
            return embeddings
        from ..embeddings.address import addresses  # noqa: PLC0415 - both load LangChain, as `embeddings` has
        from ..embeddings.cached import CachedEmbeddings  # noqa: PLC0415

        model, dimension = section.model or told_model(embeddings), section.dimension or told_dimension(embeddings)
        settings = ("base_url", "document_prompt", "query_prompt", "options")
        said = {name: getattr(section, name) for name in settings}
        identity = [section.provider, model, dimension, said, addresses(embeddings)]
        kept = KeptVectors(self._cache, json.dumps(identity, sort_keys=True, default=dict))
        return CachedEmbeddings(embeddings, kept, model=model, dimension=dimension)

    @cached_property
    def _cache(self) -> VectorCache:
        settings = self._settings.embedding_cache
        if settings.connection is None:
            return MemoryVectors(settings.max_entries)
        from ..embeddings.cache_stores import RedisVectors, SQLiteVectors  # noqa: PLC0415 - only who has one needs it

        connections = self._connections or ConnectionFactory(self._settings)
        manager = connections.get_connection_manager(settings.connection)
        if manager.connection_type == ConnectionType.SQLITE:
            return SQLiteVectors(manager, settings.max_entries)
        return RedisVectors(manager, settings.max_entries, settings.prefix)


def _split(section: EmbeddingSettings) -> EmbeddingSettings:
    """Read `provider: "openai:text-embedding-3-large"` as a provider and its model."""
    provider, colon, model = section.provider.partition(":")
    if not colon:
        return section
    if section.model not in (None, model):
        raise ConfigurationError(
            f"the embedding {section.provider!r} has the model {section.model!r} as well: which is it?"
        )
    return section.model_copy(update={"provider": provider, "model": model})


def _creator(section: EmbeddingSettings) -> Creator:
    """The registered one, or LangChain's for a provider that is not and whose model is named."""
    if section.provider in EmbeddingRegistry or section.model is None:
        return EmbeddingRegistry.get(section.provider)
    try:
        return cast("Creator", import_target(_LANGCHAIN))
    except MissingDependencyError as error:
        try:
            return EmbeddingRegistry.get(section.provider)
        except NotRegisteredError as unknown:
            raise NotRegisteredError(f"{unknown}; for those of LangChain, {error}") from error


def _config(section: EmbeddingSettings) -> dict[str, Any]:
    config: dict[str, Any] = {
        **section.options,
        **{name: getattr(section, name) for name in type(section).model_fields},
    }
    return {**config, f"{section.provider}_api_key": section.api_key, f"{section.provider}_model": section.model}


def _section(provider: str, config: EmbeddingSettings | Mapping[str, Any]) -> EmbeddingSettings:
    """Read the settings of one provider, also with the specification's flat keys."""
    if isinstance(config, EmbeddingSettings):
        return config
    prefix = f"{provider.partition(':')[0]}_"
    given = {key.removeprefix(prefix): value for key, value in config.items()}
    try:
        return EmbeddingSettings.model_validate({"provider": provider, **given})
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))} {problem['msg']}".strip()
            for problem in error.errors(include_input=False, include_url=False)
        )
        # `from None`: pydantic's error keeps the input, keys included.
        raise ConfigurationError(f"the settings of the embedding provider {provider!r}: {problems}") from None
