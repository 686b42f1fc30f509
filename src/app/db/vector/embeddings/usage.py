"""What embedding has cost so far."""

import threading
from dataclasses import dataclass, field


@dataclass(slots=True)
class Usage:
    """Totals of one embedding since it was made. They are the same object all the time, and only grow."""

    texts: int = 0
    """Texts that the model embedded."""
    requests: int = 0
    """Requests that a provider answered; calls of a model that runs here."""
    tokens: int = 0
    """As the provider counts them, for its bill; 0 where it tells none."""
    cached: int = 0
    """Texts that were answered from the cache."""
    waits: int = 0
    """How often a provider that limits its rate was waited for."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, *, texts: int = 0, requests: int = 0, tokens: int = 0, cached: int = 0, waits: int = 0) -> None:
        with self._lock:
            self.texts += texts
            self.requests += requests
            self.tokens += tokens
            self.cached += cached
            self.waits += waits
