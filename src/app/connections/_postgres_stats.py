"""The numbers of a pool, under our names."""

from collections.abc import Mapping
from typing import Final

_COUNTED: Final = {
    "requests": ("requests_num",),
    "requests_queued": ("requests_queued",),
    "requests_wait_ms": ("requests_wait_ms",),
    "requests_errors": ("requests_errors",),
    "connections_made": ("connections_num",),
    "connections_made_ms": ("connections_ms",),
    "connections_errors": ("connections_errors",),
    "connections_lost": ("connections_lost", "returns_bad"),
}
"""What is counted since the pool was opened, by psycopg_pool's names for it."""


def stats_of(found: Mapping[str, int], in_use: int) -> dict[str, int]:
    """The numbers of a pool of psycopg's; those in use are counted by us, since it counts no more than lent or not."""
    return {
        "max_size": found.get("pool_max", 0),
        "size": found.get("pool_size", 0),
        "idle": found.get("pool_available", 0),
        "in_use": in_use,
        "waiting": found.get("requests_waiting", 0),
        **{name: sum(found.get(each, 0) for each in theirs) for name, theirs in _COUNTED.items()},
    }
