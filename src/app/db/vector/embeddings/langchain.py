"""Any other provider of LangChain's, as `provider:model`, through `init_embeddings`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr, ValidationError

from ....core.constants import EmbeddingType
from ....core.errors import ConfigurationError, MissingDependencyError, NotRegisteredError, did_you_mean
from .config import place_of

try:
    from langchain.embeddings import init_embeddings
except ImportError as error:
    raise MissingDependencyError.for_extra("langchain", "langchain") from error

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings


def create(config: Mapping[str, Any]) -> "Embeddings":
    """The provider's own class; it batches and retries as it does. `options` are its arguments."""
    place, provider = place_of(config), config["provider"]
    arguments = dict(config["options"])
    key = config.get("api_key")
    if isinstance(key, SecretStr):
        arguments["api_key"] = key.get_secret_value()
    if config.get("base_url"):
        arguments["base_url"] = config["base_url"]
    try:
        return init_embeddings(config["model"], provider=provider, **arguments)
    except ImportError as error:
        package = f"langchain-{provider.replace('_', '-')}"
        raise MissingDependencyError(
            f"{place}: the package of LangChain's provider {provider!r} is not installed: pip install {package}"
        ) from error
    except ValidationError as error:
        wrong = ", ".join(sorted({".".join(map(str, each["loc"])) for each in error.errors(include_input=False)}))
        # `from None`: pydantic's error keeps the input, keys included.
        raise ConfigurationError(
            f"{place}: LangChain's provider {provider!r} does not take these settings ({wrong or 'see its page'})"
        ) from None
    except (ValueError, TypeError) as error:
        if str(error).startswith(f"Provider {provider!r} is not supported"):
            near = did_you_mean(provider, EmbeddingType)
            raise NotRegisteredError(
                f"no embedding provider named {provider!r}{near}, neither here nor in LangChain: {error}"
            ) from error
        raise ConfigurationError(f"{place}: LangChain's provider {provider!r} does not take these settings") from error
