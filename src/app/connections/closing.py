"""Closing several things: one that fails does not keep the others open."""

from collections.abc import Awaitable, Callable, Iterable

from ..core.utils.logger import get_logger

logger = get_logger(__name__)


async def close_each(closing: Iterable[tuple[str, Callable[[], Awaitable[None]]]]) -> None:
    """Close in the order given; each failure is logged, and the first is raised at the end."""
    first: Exception | None = None
    for name, close in closing:
        try:
            await close()
        except Exception as error:
            logger.exception("closing %s failed", name)
            first = first or error
    if first is not None:
        raise first
