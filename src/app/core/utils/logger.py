"""Logging as a library does it: named loggers, no handlers, no level."""

import logging

logging.getLogger(__name__.partition(".core.")[0]).addHandler(logging.NullHandler())


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a module. Its handlers and level are the application's to choose."""
    return logging.getLogger(name)
