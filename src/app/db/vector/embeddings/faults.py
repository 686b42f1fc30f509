"""What a provider of embeddings answers instead of vectors, and the errors of ours for it."""

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from ....core.errors import (
    AppError,
    ConfigurationError,
    DeadlineExceededError,
    InvalidChangeError,
    StoreUnavailableError,
)


class RefusedError(Exception):
    """An answer with an HTTP status that is no success. Its text may repeat what was sent, so nothing of it is kept."""

    def __init__(self, status: int, headers: Mapping[str, str] | None = None, code: Any = None) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.code = code if isinstance(code, str) and _CODE.fullmatch(code) else None
        self.retry_after = _seconds(headers or {})

    @property
    def is_rate_limit(self) -> bool:
        """Whether the same request may be answered later. A quota that is used up, also a 429, comes back by money."""
        return self.status == _TOO_MANY and self.code != "insufficient_quota"


class ConnectionLostError(Exception):
    """The provider could not be reached, or hung up before it answered."""


class TimedOutError(Exception):
    """The provider did not answer in time."""


_TOO_MANY = 429
_CODE = re.compile(r"[a-z][\w.-]{0,60}")


def error_for(fault: Exception, place: str) -> AppError:
    """Our error for what a request to the provider at `place` (an entry of the settings) ended with."""
    if isinstance(fault, TimedOutError):
        return DeadlineExceededError(f"{place}: the provider did not answer within its `timeout`")
    if isinstance(fault, ConnectionLostError):
        return StoreUnavailableError(f"{place}: the provider cannot be reached, or hung up before it answered")
    assert isinstance(fault, RefusedError)  # noqa: S101 - there is no other
    said = f"HTTP {fault.status}, {fault.code}" if fault.code else f"HTTP {fault.status}"
    match fault.status:
        case 401 | 403:
            return ConfigurationError(f"{place}: the provider refuses the api_key ({said})")
        case 404:
            return ConfigurationError(f"{place}: the provider has no such model or address ({said})")
        case 429 if not fault.is_rate_limit:
            return StoreUnavailableError(f"{place}: what the provider's plan allows is used up ({said})")
        case 429:
            asked = f", and asks for {fault.retry_after:.0f} s" if fault.retry_after else ""
            return StoreUnavailableError(f"{place}: the provider limits the rate{asked} ({said}); try again later")
        case status if 400 <= status < 500:  # noqa: PLR2004 - as HTTP divides them
            return InvalidChangeError(
                f"{place}: the provider refuses the request ({said}): a text may be too long for the model, or the "
                "model may not know `dimension`"
            )
    return StoreUnavailableError(f"{place}: the provider failed ({said}); try again later")


def _seconds(headers: Mapping[str, str]) -> float | None:
    """How long the provider asks to wait: `retry-after-ms`, or `retry-after` in seconds or as a date."""
    given = {name.lower(): value for name, value in headers.items()}
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            seconds = float(given[name]) / unit
        except (KeyError, ValueError):
            continue
        if 0 <= seconds < float("inf"):
            return seconds
    try:
        return max(parsedate_to_datetime(given["retry-after"]).timestamp() - time.time(), 0)
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
