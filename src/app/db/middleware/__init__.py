"""What stands between every repository and every store, in one order."""

from .attribution import Attribution
from .audit import Audit
from .base import CacheRule, Declaration, Middleware, Store, Visibility, chain
from .caching import Caching
from .history import History
from .soft_delete import SoftDelete
from .timestamps import Timestamps
from .versioning import Versions

__all__ = [
    "ORDER",
    "Attribution",
    "Audit",
    "CacheRule",
    "Caching",
    "Declaration",
    "History",
    "Middleware",
    "SoftDelete",
    "Store",
    "Timestamps",
    "Versions",
    "Visibility",
    "chain",
]

ORDER: tuple[type[Middleware], ...] = (Caching, SoftDelete, Timestamps, Attribution, Versions, Audit, History)
"""From the repository to the store. Each applies by itself where the model or the repository asks for it.

First what answers without the store, then what rewrites an operation, then what keeps a journal of what is really
written.
"""
