"""For how long answers are kept."""

from dataclasses import dataclass

from ...core.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """Keep single records for `ttl` seconds, give or take a tenth, and that there is none for `absent_ttl`."""

    ttl: float
    absent_ttl: float = 5.0

    def __post_init__(self) -> None:
        if not (self.ttl > 0 and self.absent_ttl > 0):
            raise ConfigurationError("a cache keeps answers for a positive number of seconds")
        object.__setattr__(self, "absent_ttl", min(self.ttl, self.absent_ttl))
