"""Where servers can be started from wheels."""

import sys

from ...core.errors import UnsupportedOperationError


def require_linux(engine: str, advice: str) -> None:
    """Raise elsewhere: no other system ends a server when the process that watches over it was killed."""
    if sys.platform != "linux":
        raise UnsupportedOperationError(f"embedded {engine} runs on Linux only; on {sys.platform} {advice}")
