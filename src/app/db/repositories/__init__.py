"""What an application uses. Importing this package loads no driver."""

from .base import Repository
from .registry import RepositoryRegistry

__all__ = ["Repository", "RepositoryRegistry"]
