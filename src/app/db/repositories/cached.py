"""Methods of a repository whose answers are kept until something is written to its collection."""

import functools
import hashlib
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from pydantic import BaseModel

from ...core.errors import ConfigurationError
from ..backends._json import encode_json
from ..cache.policy import CachePolicy
from ..middleware.caching import collection_id, method_tag, version_of
from ..models.schema import ModelSchema
from ..models.values import storable

P = ParamSpec("P")
R = TypeVar("R")
RepositoryT = TypeVar("RepositoryT", bound=Any)
Method = Callable[Concatenate[RepositoryT, P], Awaitable[R]]

_ENTITY = "$entity"


def cached(*, ttl: float, absent_ttl: float = 5.0) -> Callable[[Method[RepositoryT, P, R]], Method[RepositoryT, P, R]]:
    """Keep the answers of an `async` method of a repository for `ttl` seconds, by its arguments; None for `absent_ttl`.

    Any write to the repository's collection drops them; writes to others that the method reads do not. Answers are
    entities of the repository, plain values, and lists and dicts of both; arguments are plain values. In a transaction
    the method runs as it is.
    """
    policy = CachePolicy(ttl, absent_ttl)

    def decorate(method: Method[RepositoryT, P, R]) -> Method[RepositoryT, P, R]:
        if not inspect.iscoroutinefunction(method):
            raise ConfigurationError(f"@cached is for async methods of a repository, and {method.__name__} is none")
        signature = inspect.signature(method)
        name = method.__qualname__

        @functools.wraps(method)
        async def wrapper(self: RepositoryT, /, *args: P.args, **kwargs: P.kwargs) -> R:
            binding = self._binding
            rule = binding.cache
            if rule is None or binding.backend.transaction is not None:
                return await method(self, *args, **kwargs)
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()
            arguments = dict(list(bound.arguments.items())[1:])
            collection = collection_id(binding.backend)
            visibility = binding.declaration.visibility.value
            # A method that is inherited may read what only the subclass has.
            kind = f"{type(self).__module__}.{type(self).__qualname__}"
            version = version_of(binding.backend.schema)
            key = f"{collection}:{visibility}:{kind}:{name}:{_digest(arguments, name)}{version}"

            async def load() -> Any:
                return encode(await method(self, *args, **kwargs), self.schema)

            answer = await rule.cache.get(key, (method_tag(collection),), load, policy)
            result: R = decode(answer, self.schema)
            return result

        wrapper.__cached__ = True  # type: ignore[attr-defined]  # what `is_cached` looks for
        return wrapper

    return decorate


def is_cached(method: object) -> bool:
    return getattr(method, "__cached__", False) is True


def encode(value: Any, schema: ModelSchema[Any]) -> Any:
    """An answer in what stores keep; ConfigurationError for one that could not be made again of it."""
    if isinstance(value, schema.entity_class):
        return {_ENTITY: schema.document(value)}
    match value:
        case BaseModel():
            raise ConfigurationError(
                f"@cached: a {type(value).__name__} is not this repository's {schema.model.__name__}: "
                "return entities, plain values, lists or dicts"
            )
        case list():
            return [encode(item, schema) for item in value]
        case dict():
            if not all(isinstance(key, str) and not key.startswith("$") for key in value):
                raise ConfigurationError("@cached: the keys of a dict are text that does not begin with $")
            return {key: encode(item, schema) for key, item in value.items()}
    plain = storable(value)
    if type(plain) is not type(value) or plain != value:
        raise ConfigurationError(f"@cached: a {type(value).__name__} does not come back as it went in")
    return plain


def decode(value: Any, schema: ModelSchema[Any]) -> Any:
    match value:
        case {"$entity": document}:
            return schema.entity(document)
        case list():
            return [decode(item, schema) for item in value]
        case dict():
            return {key: decode(item, schema) for key, item in value.items()}
    return value


def _digest(arguments: dict[str, Any], name: str) -> str:
    """Stands for the arguments in a key, where those that are secret could be read."""
    try:
        return hashlib.sha256(encode_json(storable(arguments)).encode()).hexdigest()
    except ValueError as error:
        raise ConfigurationError(f"@cached: an argument of {name} is no plain value: {error}") from None
