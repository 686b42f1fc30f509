"""How a row lies in Chroma: its id, its text as the document, and flat metadata that a filter can ask for.

`manystore` has the metadata as JSON text, `doc` the document's id where that is another than the row's; further keys
follow from the row's terms and numbers: `=city` has a text or a boolean, `<year` a number, `tags~t:new` stands for an
element of a list.

Each key costs 3 % of what a row of 384 dimensions costs, an element of a list that is a value (which Chroma has since
1.5) thrice that. So there is no key for the kind of what is at a path: what needs one is decided by reading.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ...core.errors import StoreUnavailableError
from .engine import FOREIGN_ROW, Found, metadata_object
from .payload import Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROW: Final = "manystore"
DOCUMENT: Final = "doc"
DESCRIPTION: Final = "manystore"
"""Under this key a collection's own metadata has the contract, as JSON text."""

_EMPTY: Final = "\0"  # Chroma takes no empty id, and no id of ours has U+0000


def chroma_id(row_id: str) -> str:
    return row_id or _EMPTY


def own_id(chroma: str) -> str:
    return "" if chroma == _EMPTY else chroma


def text_key(path: str) -> str:
    return f"={path}"


def number_key(path: str) -> str:
    return f"<{path}"


def row_metadata(row: Row, embedded_at: str) -> dict[str, Any]:
    kept: dict[str, Any] = {ROW: f'{{"at":{json.dumps(embedded_at)},"metadata":{row.metadata}}}'}
    if row.document_id != row.id:
        kept[DOCUMENT] = row.document_id
    own, _, numbers = row.terms()
    for term in own:
        path, mark, rest = _split(term)
        if mark == "~":
            kept[term] = True
        elif mark == "=" and path not in numbers:
            kept[text_key(path)] = rest
    for path, number in numbers.items():
        kept[number_key(path)] = ordered(number)
    return kept


def _split(term: str) -> tuple[str, str, str]:
    """Path, mark and the rest of a term of `payload.py`; a path has none of the marks."""
    place = min(at for at in map(term.find, "=~^") if at > 0)
    return term[:place], term[place], term[place + 1 :]


def ordered(number: float) -> int:
    """A float64 as a signed integer of the same order.

    Chroma reads floats from JSON, in filters and over HTTP, with the last bit wrong now and then; integers are exact.
    """
    bits: int = struct.unpack(">q", struct.pack(">d", number + 0.0))[0]  # -0.0 is 0.0
    return bits if bits >= 0 else -1 - (bits & (2**63 - 1))


def changed_keys(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> dict[str, Any]:
    """What to write so that a row has `new` and nothing else: Chroma keeps the keys that a write does not name."""
    return {**dict.fromkeys((old or {}).keys() - new.keys()), **new}


def _array(vector: Any) -> "NDArray[np.float32]":
    import numpy as np  # noqa: PLC0415 - loaded by what made the vectors

    return np.asarray(vector, dtype=np.float32)


def read_rows(kept: Sequence[Mapping[str, Any] | None]) -> list[tuple[str, dict[str, Any]]]:
    """Of each row when it was embedded, and its metadata."""
    try:
        # Read as one text, which takes a third of what it takes one by one.
        rows = json.loads(f"[{','.join([(each or {})[ROW] for each in kept])}]")
        read = [(row["at"], metadata_object(row["metadata"])) for row in rows]
        if len(read) == len(kept):
            return read
        cause = None
    except (KeyError, TypeError, ValueError) as error:
        cause = error
    raise StoreUnavailableError(FOREIGN_ROW) from cause


def found_in(answer: Mapping[str, Any], scores: Sequence[float] | None = None) -> list[Found]:
    """The rows of an answer to `get`, or of a query's first answer."""
    ids = ["" if each == _EMPTY else each for each in answer["ids"]]
    metadatas, vectors = answer["metadatas"], answer.get("embeddings")
    each_part = zip(
        ids,
        metadatas,
        answer["documents"],
        read_rows(metadatas),
        [0.0] * len(ids) if scores is None else scores,
        [None] * len(ids) if vectors is None else map(_array, vectors),
        strict=True,
    )
    return [
        Found(row_id, kept.get(DOCUMENT, row_id), text or "", metadata, at, score, vector)
        for row_id, kept, text, (at, metadata), score, vector in each_part
    ]
