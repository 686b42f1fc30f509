"""manystore: one data layer for agent and chat applications."""

__version__ = "0.1.0"
