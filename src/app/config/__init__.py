"""Typed settings from one YAML file, a dict, or nothing at all."""

from .loader import load
from .settings import Settings

__all__ = ["Settings", "load"]
