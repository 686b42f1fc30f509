"""One event loop in a thread of its own, for LangChain's sync methods, wherever they are called."""

import atexit
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar, cast

from ...core.sync import Portal

R = TypeVar("R")

_portal: Portal | None = None
_lock = threading.Lock()
_process = os.getpid()


def wait(work: Coroutine[Any, Any, R]) -> R:
    """Run it on that loop. Called where a loop is running, it blocks that one, as every sync method does."""
    global _portal, _process
    with _lock:
        if _portal is None or _process != os.getpid():
            _portal, _process = Portal("manystore langchain", _nothing, from_loops=True), os.getpid()
            atexit.register(_portal.close)
        portal = _portal
    return cast("R", portal.call(lambda: work))


async def _nothing() -> None:
    """What lives on this loop belongs to DataLayers, which close it."""


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603 - the parent's may be held by a thread that is not here
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
