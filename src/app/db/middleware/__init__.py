"""What stands between every repository and every store, in one order."""

from .audit import Audit
from .base import Declaration, Middleware, Store, Visibility, chain
from .history import History
from .soft_delete import SoftDelete
from .timestamps import Timestamps
from .versioning import Versions

__all__ = [
    "ORDER",
    "Audit",
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

ORDER: tuple[type[Middleware], ...] = (Timestamps, SoftDelete, Versions, Audit, History)
"""From the repository to the store. Each applies by itself where the model or the repository asks for it.

First those that rewrite an operation, then those that keep a journal of what is really written.
"""
