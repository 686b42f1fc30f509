"""What providers read from their settings."""

import os
from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from ....config.connections import sendable
from ....core.errors import ConfigurationError

NO_KEY = "none"
"""What is sent where a server of one's own asks for no key; clients insist on one."""


def place_of(config: Mapping[str, Any]) -> str:
    """The entry of the settings, as messages name it."""
    return f"embeddings.{config.get('name') or config['provider']}"


def api_key(config: Mapping[str, Any], *variables: str) -> str:
    """The key from the settings, else from the provider's own variable of the environment.

    A server at another address never gets the environment's key, which is not meant for it.
    """
    key = config.get("api_key")
    if isinstance(key, SecretStr):
        return key.get_secret_value()
    if config.get("base_url"):
        return NO_KEY
    for variable in variables:
        if os.environ.get(variable):
            try:
                return sendable(os.environ[variable])
            except ValueError as error:
                raise ConfigurationError(f"{place_of(config)}: {variable}: {error}") from None
    variable = config.get("api_key_variable") or variables[0]
    raise ConfigurationError(f"{place_of(config)} has no api_key: set the environment variable {variable}")
