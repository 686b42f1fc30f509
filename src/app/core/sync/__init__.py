"""The one sync face: a portal thread that owns a loop, and wrappers that are made of whatever there is to wrap."""

from .face import Sync, SyncLayer, SyncOwner
from .portal import Portal

__all__ = ["Portal", "Sync", "SyncLayer", "SyncOwner"]
