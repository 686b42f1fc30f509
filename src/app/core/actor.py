"""Who is acting: the name that an audit log has for the writes of this context."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_actor: ContextVar[str | None] = ContextVar("manystore_actor", default=None)


@contextmanager
def acting_as(actor: str) -> Iterator[None]:
    """Name who does what is written inside it, also around `await`: `with` it and the name of a user.

    Tasks that are begun inside inherit it, and no other task or thread sees it. The innermost one counts.
    """
    if not isinstance(actor, str):
        raise TypeError(f"an actor is named by text, not by a {type(actor).__name__}: acting_as(str(user.id))")
    if not actor or "\0" in actor or not _is_text(actor):
        raise ValueError("an actor has a name, of text that every store can keep")
    token = _actor.set(actor)
    try:
        yield
    finally:
        try:
            _actor.reset(token)
        except ValueError:  # a generator or fixture that is torn down in another context than it began in
            _actor.set(None)


def current_actor() -> str | None:
    """The actor of this context; None when nobody is named."""
    return _actor.get()


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
