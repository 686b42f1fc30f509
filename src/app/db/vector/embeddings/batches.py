"""Embedding in batches, some at once, each a request to a provider or a call of a model."""

import asyncio
import os
import time
import weakref
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from random import uniform
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ....core.errors import AppError, ConfigurationError
from .arrays import ArrayEmbeddings
from .faults import ConnectionLostError, RefusedError, TimedOutError, error_for
from .model import check_embeddable, checked
from .usage import Usage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ATTEMPTS: Final = 7
LONGEST_WAIT: Final = 60.0
"""Seconds: of a provider that asks for more, the error is raised at once."""
_FIRST_WAIT: Final = 0.5
_JITTER: Final = 0.25


class Answer(NamedTuple):
    vectors: Sequence[Any]
    tokens: int = 0


class BatchedEmbeddings(ArrayEmbeddings):
    """Requests within a provider's limits, `concurrency` at once in the process, on threads of its own.

    A provider that limits the rate (HTTP 429) is left alone by all of them for as long as it asks, else twice as long
    each time, and asked again; a request whose connection broke is sent once more, since embedding twice changes
    nothing. Everything else is an error at once. Cancelling sends no further request.
    """

    def __init__(
        self,
        *,
        place: str,
        model: str,
        dimension: int | None = None,
        concurrency: int = 4,
        most_texts: int,
        most_bytes: int | None = None,
    ) -> None:
        self.place = place
        self.model = model
        self.dimension = dimension
        self.address: str | None = None
        """The server's, as the client knows it; None where there is none."""
        self.usage = Usage()
        self._concurrency = concurrency
        self._most_texts = most_texts
        self._most_bytes = most_bytes
        self._resume_at = 0.0
        self._closed = False
        self._opened: list[weakref.finalize[..., Any]] = []
        self._process = 0
        self._threads: ThreadPoolExecutor
        self._send: Callable[..., Answer]

    @abstractmethod
    def _connect(self) -> tuple[Callable[..., Answer], Callable[[], None]]:
        """Make what sends, and what closes that again.

        `send(texts, query=False)` embeds one batch, in a thread, several at once. A provider's refusals are raised as
        in `faults`.
        """

    def open(self) -> None:
        """Make the client and the threads, unless this process has them: those of a parent are no use in a fork."""
        if self._closed:
            raise ConfigurationError(f"{self.place} was closed with its DataLayer")
        if self._process == os.getpid():
            return
        self._send, close = self._connect()
        self._threads = ThreadPoolExecutor(self._concurrency, thread_name_prefix=f"embed {self.model}")
        for function in (close, partial(self._threads.shutdown, wait=False, cancel_futures=True)):
            self._opened.append(weakref.finalize(self, function))
        self._process = os.getpid()

    def close(self) -> None:
        self._closed = True
        for close in self._opened:
            close()

    async def aembed_array(self, texts: Sequence[str], *, query: bool = False) -> "NDArray[np.float32]":
        check_embeddable(texts)
        self.open()
        slots = asyncio.Semaphore(self._concurrency)
        batches = within(texts, self._most_texts, self._most_bytes)
        tasks = [asyncio.ensure_future(self._embed(batch, slots, query=query)) for batch in batches]
        try:
            answers = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return checked([row for answer in answers for row in answer], len(texts), self.place, self.dimension)

    async def _embed(self, texts: list[str], slots: asyncio.Semaphore, *, query: bool) -> Sequence[Any]:
        waits = 0
        sent_again = False
        while True:
            async with slots:
                await self._resume()
                self.open()
                try:
                    answer = await asyncio.get_running_loop().run_in_executor(
                        self._threads, partial(self._answered, texts, waits, query=query)
                    )
                except asyncio.CancelledError:
                    task = asyncio.current_task()
                    if task is None or not task.cancelling():
                        self.open()  # which says that it was closed meanwhile
                    raise
                except RefusedError as error:
                    if self._wait_for(error, waits) is None:
                        raise self._error(error) from _cause(error)
                    waits += 1
                    self.usage.add(waits=1)
                    continue
                except ConnectionLostError as error:
                    if sent_again:
                        raise self._error(error) from _cause(error)
                    sent_again = True
                    continue
                except TimedOutError as error:
                    raise self._error(error) from _cause(error)
                except AppError:
                    raise
                except (AttributeError, LookupError, TypeError, ValueError) as error:
                    # How clients fail on an answer that is JSON and no list of vectors.
                    raise AppError(f"{self.place}: the answer is not one of the provider's API") from error
            if answer is None:
                continue
            if len(answer.vectors) != len(texts):
                raise AppError(f"{self.place}: {len(answer.vectors)} vectors came back for {len(texts)} texts")
            self.usage.add(texts=len(texts), requests=1, tokens=answer.tokens)
            return answer.vectors

    def _answered(self, texts: list[str], waits: int, *, query: bool) -> Answer | None:
        """In a thread. None, with nothing sent, where another one was told to leave the provider alone while this one
        waited for the thread.
        """
        import numpy as np  # noqa: PLC0415 - loaded with the first vectors

        if time.monotonic() < self._resume_at:
            return None
        try:
            answer = self._send(texts, query=query)
        except RefusedError as error:
            seconds = self._wait_for(error, waits)
            if seconds is not None:  # said here, before this thread takes the next request
                self._resume_at = max(self._resume_at, time.monotonic() + seconds)
            raise
        # Numbers of Python's become arrays here, where nobody waits for the loop.
        with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite, and is refused
            return answer._replace(vectors=[np.asarray(row, dtype=np.float32) for row in answer.vectors])

    def _wait_for(self, refused: RefusedError, waits: int) -> float | None:
        """Seconds until the request is sent again; None when it is not."""
        if not refused.is_rate_limit or waits + 1 >= ATTEMPTS:
            return None
        if refused.retry_after is not None:
            return refused.retry_after if refused.retry_after <= LONGEST_WAIT else None
        return min(_FIRST_WAIT * 2.0**waits, LONGEST_WAIT) * uniform(1, 1 + _JITTER)  # noqa: S311 - no secret

    async def _resume(self) -> None:
        """Wait while the provider is left alone, also when another request moves the end of that."""
        while (seconds := self._resume_at - time.monotonic()) > 0:  # noqa: ASYNC110 - a time, and no event
            await asyncio.sleep(seconds)

    def _error(self, fault: Exception) -> AppError:
        return error_for(fault, self.place)


def _cause(fault: Exception) -> BaseException | None:
    """The client's own error, but where the key was refused: providers repeat it in part."""
    return None if isinstance(fault, RefusedError) and fault.status in (401, 403) else fault.__cause__


def within(texts: Sequence[str], most_texts: int, most_bytes: int | None) -> Iterator[list[str]]:
    """The texts in order, in as few batches as the limits allow. A text that is too long alone is one by itself."""
    batch: list[str] = []
    size = 0
    for text in texts:
        length = len(text.encode()) if most_bytes else 0
        if batch and (len(batch) == most_texts or (most_bytes and size + length > most_bytes)):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += length
    if batch:
        yield batch
