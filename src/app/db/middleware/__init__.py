"""What stands between every repository and every store, in one order."""

from .base import Middleware, chain
from .soft_delete import SoftDelete, Visibility
from .timestamps import Timestamps

__all__ = ["ORDER", "Middleware", "SoftDelete", "Timestamps", "Visibility", "chain"]

ORDER: tuple[type[Middleware], ...] = (Timestamps, SoftDelete)
"""From the repository to the store. Each applies by itself where the model asks for it."""
