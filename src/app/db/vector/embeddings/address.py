"""Where an embedding sends its texts. Two servers may give one model's name to different vectors."""

from typing import Any, Final

from .batches import BatchedEmbeddings

_NAMES: Final = ("base_url", "api_base", "api_url", "endpoint", "host")
_DEPTH: Final = 4
_MOST: Final = 1_000


def addresses(embeddings: object) -> list[str]:
    """As the clients themselves know it, since many read it from the environment or from a file of their own.

    Of a class that is not ours, it is what stands under the usual names in the object and in those below it.
    """
    if isinstance(embeddings, BatchedEmbeddings):
        return [embeddings.address] if embeddings.address else []
    found: set[str] = set()
    seen: set[int] = set()
    level: list[Any] = [embeddings]
    for _ in range(_DEPTH):
        below: list[Any] = []
        for each in level:
            for name, value in _attributes(each):
                if isinstance(value, str) or type(value).__name__ == "URL":
                    if str(value) and any(part in name for part in _NAMES):
                        found.add(str(value))
                elif hasattr(value, "__dict__") and id(value) not in seen and len(seen) < _MOST:
                    seen.add(id(value))
                    below.append(value)
        level = below
    return sorted(found)


def _attributes(of: Any) -> list[tuple[str, Any]]:
    if isinstance(of, type):
        return []
    return [*getattr(of, "__dict__", {}).items(), *(getattr(of, "__pydantic_private__", None) or {}).items()]
