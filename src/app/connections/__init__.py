"""One manager per store: lazy, single-flight, per event loop, bounded."""

from ..core.constants import ConnectionType
from .base import ConnectionHealth, ConnectionManager
from .factory import ConnectionFactory, ConnectionRegistry

__all__ = ["ConnectionFactory", "ConnectionHealth", "ConnectionManager", "ConnectionRegistry", "ConnectionType"]
