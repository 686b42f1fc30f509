"""OpenAI, and servers that speak its API (`base_url`)."""

from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ....core.errors import AppError, MissingDependencyError
from .batches import Answer, BatchedEmbeddings
from .config import api_key, place_of
from .faults import ConnectionLostError, RefusedError, TimedOutError

try:
    import openai
except ImportError as error:
    raise MissingDependencyError.for_extra("openai", "openai") from error

if TYPE_CHECKING:
    from openai.types import Embedding

MODEL: Final = "text-embedding-3-small"
MOST_TEXTS: Final = 2_048
# A request has 300,000 tokens at the most. A token is a byte or more, so this needs no tokenizer, whose tables
# would be downloaded.
MOST_BYTES: Final = 300_000


class OpenAIEmbeddings(BatchedEmbeddings):
    """Answers are asked for in base64, which is a third as long as numbers, and exact."""

    def __init__(self, *, key: str, base_url: str | None, timeout: float, **options: Any) -> None:
        super().__init__(most_bytes=MOST_BYTES, **options)
        self.address = base_url
        self._make: Callable[[], openai.OpenAI] = lambda: openai.OpenAI(
            api_key=key,
            base_url=self.address,
            timeout=timeout,
            max_retries=0,  # its own retries know only some of our rules
        )
        self.open()

    def _connect(self) -> tuple[Callable[..., Answer], Callable[[], None]]:
        client = self._make()
        self.address = str(client.base_url)  # it may be of the environment, OPENAI_BASE_URL
        place, model, dimension = self.place, self.model, self.dimension or openai.omit

        def send(texts: list[str], *, query: bool) -> Answer:  # noqa: ARG001 - there are no two kinds of text
            try:
                answer = client.embeddings.create(
                    input=texts, model=model, encoding_format="base64", dimensions=dimension
                )
            except openai.APITimeoutError as error:
                raise TimedOutError from error
            except openai.APIConnectionError as error:
                raise ConnectionLostError from error
            except openai.APIStatusError as error:
                raise RefusedError(error.status_code, error.response.headers, error.code) from error
            except (openai.OpenAIError, ValueError) as error:
                raise AppError(f"{place}: the answer is not one of OpenAI's API") from error
            return Answer(_in_order(answer.data, place), getattr(answer.usage, "prompt_tokens", None) or 0)

        return send, client.close


def _in_order(data: "Sequence[Embedding] | None", place: str) -> list[Any]:
    """The vectors in the order of the texts, which the API says by `index`."""
    import numpy as np  # noqa: PLC0415 - loaded with the first vectors

    by_index = sorted(data or [], key=lambda each: each.index)
    if [each.index for each in by_index] != list(range(len(by_index))):
        raise AppError(f"{place}: the answer leaves out a text, or has one twice")
    # A server that only speaks like OpenAI may answer in numbers.
    vectors: list[Any] = [each.embedding for each in by_index]
    return [np.frombuffer(b64decode(each), "<f4") if isinstance(each, str) else each for each in vectors]


def create(config: Mapping[str, Any]) -> OpenAIEmbeddings:
    return OpenAIEmbeddings(
        place=place_of(config),
        key=api_key(config, "OPENAI_API_KEY"),
        base_url=config.get("base_url"),
        timeout=config["timeout"],
        model=config.get("model") or MODEL,
        dimension=config.get("dimension"),
        concurrency=config["concurrency"],
        most_texts=min(config.get("batch_size") or MOST_TEXTS, MOST_TEXTS),
    )
