"""How each store carries out the five operations."""

from .base import BackendRegistry, Capability, CollectionSchema, Index, StorageBackend

__all__ = ["BackendRegistry", "Capability", "CollectionSchema", "Index", "StorageBackend"]
