"""Which embedding providers there are, and the configured ones of one DataLayer."""

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ....config.settings import EmbeddingSettings, Settings
from ....core.constants import EmbeddingType
from ....core.current import on_current
from ....core.errors import ConfigurationError, NotRegisteredError
from ....core.registry import Registry
from ..embeddings.model import EmbeddingModel

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

Creator = Callable[[Mapping[str, Any]], "Embeddings"]
"""Makes a provider from its settings. The keys are those of `EmbeddingSettings`, those under `options`, and the
specification's flat ones (`openai_api_key`, `openai_model`, …); what is not set is None, and keys are SecretStr.
"""

EmbeddingRegistry: Registry[Creator] = Registry(
    "embedding provider",
    {EmbeddingType.WORDLLAMA: ".db.vector.embeddings.wordllama:create"},
    entry_point_group="manystore.embeddings",
)


class EmbeddingFactory:
    """The embeddings of one DataLayer. Called on the class, each method acts on the current DataLayer's."""

    _layer_attribute = "embeddings"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._models: dict[str, EmbeddingModel] = {}
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
                model = self._models[name] = _model(str(name), section)
        return model

    @on_current
    def get_embedding_model(
        self, embedding_type: str, embedding_config: "EmbeddingSettings | Mapping[str, Any] | None" = None
    ) -> "Embeddings":
        """LangChain Embeddings of a provider, or of an entry by its name.

        Without a config they are those of the first entry with that provider, else the provider's own defaults.
        """
        if embedding_config is not None:
            return _model(str(embedding_type), _section(str(embedding_type), embedding_config)).langchain
        entries = self._settings.embeddings
        if embedding_type in entries:
            return self.embedding(embedding_type).langchain
        for name, section in entries.items():
            if section.provider == embedding_type:
                return self.embedding(name).langchain
        return _model(str(embedding_type), EmbeddingSettings(provider=str(embedding_type))).langchain


def _model(name: str, section: EmbeddingSettings) -> EmbeddingModel:
    create = EmbeddingRegistry.get(section.provider)
    return EmbeddingModel(
        lambda: create(_config(section)),
        name=name,
        provider=section.provider,
        model=section.model,
        dimension=section.dimension,
    )


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
    prefix = f"{provider}_"
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
