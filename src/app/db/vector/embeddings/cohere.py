"""Cohere. Queries and documents are embedded differently, as its API asks for."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from ....core.errors import AppError, MissingDependencyError
from .batches import Answer, BatchedEmbeddings
from .config import api_key, place_of
from .faults import ConnectionLostError, RefusedError, TimedOutError

try:
    import cohere
    import httpx  # cohere's own
    from cohere.core import ApiError
except ImportError as error:
    raise MissingDependencyError.for_extra("cohere", "cohere") from error

MODEL: Final = "embed-v4.0"
MOST_TEXTS: Final = 96


class CohereEmbeddings(BatchedEmbeddings):
    """`truncate`: what becomes of a text that is too long; END (the API's default), START or NONE, an error."""

    def __init__(self, *, key: str, base_url: str | None, timeout: float, truncate: str | None, **options: Any) -> None:
        super().__init__(**options)
        self._timeout = timeout
        self._truncate = truncate
        self.address = base_url
        self._make: Callable[[httpx.Client], Any] = lambda http: cohere.ClientV2(
            key, httpx_client=http, timeout=timeout, **self._address()
        )
        self.open()

    def _address(self) -> dict[str, Any]:
        return {"base_url": self.address} if self.address else {}

    def _connect(self) -> tuple[Callable[..., Answer], Callable[[], None]]:
        http = httpx.Client(timeout=self._timeout)
        client = self._make(http)
        self.address = client._client_wrapper.get_base_url()  # noqa: SLF001 - CO_API_URL may have said it
        place, model = self.place, self.model
        given = {"truncate": self._truncate, "output_dimension": self.dimension}
        options: dict[str, Any] = {name: value for name, value in given.items() if value}

        def send(texts: list[str], *, query: bool) -> Answer:
            try:
                answer = client.embed(
                    texts=texts,
                    model=model,
                    input_type="search_query" if query else "search_document",
                    embedding_types=["float"],
                    request_options={"max_retries": 0},  # its own retries know only some of our rules
                    **options,
                )
            except httpx.TimeoutException as error:
                raise TimedOutError from error
            except httpx.TransportError as error:
                raise ConnectionLostError from error
            except ApiError as error:
                if (error.status_code or 0) >= 400:  # noqa: PLR2004 - as HTTP divides them
                    raise RefusedError(error.status_code or 0, error.headers) from error
                raise AppError(f"{place}: the answer is not one of Cohere's API") from error
            billed = answer.meta and answer.meta.billed_units
            return Answer(answer.embeddings.float_ or [], int(billed.input_tokens or 0) if billed else 0)

        return send, http.close


def create(config: Mapping[str, Any]) -> CohereEmbeddings:
    return CohereEmbeddings(
        place=place_of(config),
        key=api_key(config, "COHERE_API_KEY", "CO_API_KEY"),
        base_url=config.get("base_url"),
        timeout=config["timeout"],
        truncate=config.get("truncate"),
        model=config.get("model") or MODEL,
        dimension=config.get("dimension"),
        concurrency=config["concurrency"],
        most_texts=min(config.get("batch_size") or MOST_TEXTS, MOST_TEXTS),
    )
