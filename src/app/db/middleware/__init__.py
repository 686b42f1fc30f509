"""What stands between every repository and every store, in one order."""

from .base import CacheRule, Declaration, Middleware, Store, Visibility, chain
from .caching import Caching
from .soft_delete import SoftDelete
from .timestamps import Timestamps
from .versioning import Versions

__all__ = [
    "ORDER",
    "CacheRule",
    "Caching",
    "Declaration",
    "Middleware",
    "SoftDelete",
    "Store",
    "Timestamps",
    "Versions",
    "Visibility",
    "chain",
]

ORDER: tuple[type[Middleware], ...] = (Caching, Timestamps, SoftDelete, Versions)
"""From the repository to the store. Each applies by itself where the model asks for it."""
