"""Models of sentence-transformers, run here: HuggingFace's and, with an instruction before each text, Instructor."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final

from ....core.errors import ConfigurationError, MissingDependencyError
from .batches import Answer, BatchedEmbeddings
from .config import place_of

MODEL: Final = "sentence-transformers/all-MiniLM-L6-v2"
INSTRUCTOR_MODEL: Final = "hkunlp/instructor-large"
# What LangChain's class for the dead package put before each text.
INSTRUCTOR_DOCUMENT: Final = "Represent the document for retrieval: "
INSTRUCTOR_QUERY: Final = "Represent the question for retrieving supporting documents: "

BATCH: Final = 32
_BATCHES: Final = 8
"""In one call, which sorts its texts by length to pad little."""


class SentenceTransformerEmbeddings(BatchedEmbeddings):
    """One call at a time: tokenizers are not for several threads, and a call uses all processors anyway.

    A text beyond the model's length is embedded by its beginning.
    """

    def __init__(self, transformer: Any, *, prompts: tuple[str | None, str | None], batch: int, **options: Any) -> None:
        super().__init__(concurrency=1, most_texts=batch * _BATCHES, **options)
        self._transformer = transformer
        self._prompts = prompts
        self._batch = batch
        self.open()

    def _connect(self) -> tuple[Callable[..., Answer], Callable[[], None]]:
        transformer, batch = self._transformer, self._batch
        document, question = self._prompts

        def send(texts: list[str], *, query: bool) -> Answer:
            prompt = question if query else document
            # Without a prompt of the settings it is the model's own for that kind of text, where it has one.
            encode = transformer.encode_query if query else transformer.encode_document
            vectors = encode(texts, prompt=prompt, batch_size=batch, show_progress_bar=False, convert_to_numpy=True)
            return Answer(vectors)

        return send, lambda: None


def create(config: Mapping[str, Any]) -> SentenceTransformerEmbeddings:
    return _create(config, MODEL, (config.get("document_prompt"), config.get("query_prompt")))


def create_instructor(config: Mapping[str, Any]) -> SentenceTransformerEmbeddings:
    document = config.get("document_prompt") or INSTRUCTOR_DOCUMENT
    query = config.get("query_prompt") or INSTRUCTOR_QUERY
    made = _create(config, INSTRUCTOR_MODEL, (document, query))
    # These models were trained with the instruction left out of the mean over the text's tokens.
    made._transformer.set_pooling_include_prompt(False)  # noqa: SLF001 - made a line above
    return made


def _create(
    config: Mapping[str, Any], default: str, prompts: tuple[str | None, str | None]
) -> SentenceTransformerEmbeddings:
    try:
        SentenceTransformer: Any = import_module("sentence_transformers").SentenceTransformer  # noqa: N806 - a class
    except ImportError as error:
        raise MissingDependencyError.for_extra("sentence-transformers", "huggingface") from error
    name = config.get("model") or default
    place = place_of(config)
    try:
        transformer = SentenceTransformer(name, device=config.get("device"), truncate_dim=config.get("dimension"))
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigurationError(
            f"{place}: the model {name!r} cannot be loaded: it is neither a directory with a model nor one that "
            "huggingface.co gives out, or `device` is not there"
        ) from error
    told = getattr(transformer, "get_embedding_dimension", None) or transformer.get_sentence_embedding_dimension
    return SentenceTransformerEmbeddings(
        transformer,
        prompts=prompts,
        batch=config.get("batch_size") or BATCH,
        place=place,
        model=name,
        dimension=config.get("dimension") or told(),
    )
