"""One collection in Chroma: rows in, rows out. Its methods are steps (`chroma_steps.py`)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ...core.constants import Distance
from ..query import Predicate
from ..query.evaluate import matches
from .chroma_filter import Where
from .chroma_rows import DOCUMENT, ROW, changed_keys, chroma_id, found_in, own_id, row_metadata
from .chroma_steps import Steps, read, write
from .contract import CollectionContract
from .engine import Found
from .payload import Row, make_row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")
Meets = Callable[[Found], bool]

BATCH: Final = 1_000
"""Rows in one write to a directory. The engine holds the interpreter's lock meanwhile, for 0.5 ms a row and more;
smaller ones take longer in all.
"""
SERVER_BATCH: Final = 100
"""To a server, which has to answer within the connection's timeout, and replaces some hundreds of rows in a second."""
PAGE: Final = 500

_SHOWN: Final = ["documents", "metadatas"]


class ChromaCollection:
    def __init__(self, there: Any, contract: CollectionContract) -> None:
        """`there` is Chroma's own, of either client."""
        self.contract = contract
        self.batch = BATCH
        self.there = there

    def upsert(self, rows: Sequence[Row], vectors: "NDArray[np.float32]", embedded_at: str) -> Steps[None]:
        """What is new is added, which Chroma does faster."""
        for start in range(0, len(rows), self.batch):
            part, array = rows[start : start + self.batch], vectors[start : start + self.batch]
            ids = [chroma_id(row.id) for row in part]
            old = yield read(self.there.get, ids=ids, include=["metadatas"])
            known = dict(zip(old["ids"], old["metadatas"], strict=True))
            new = [place for place, each in enumerate(ids) if each not in known]
            there = [place for place, each in enumerate(ids) if each in known]
            for method, places in ((self.there.add, new), (self.there.upsert, there)):
                if places:
                    yield write(
                        method,
                        ids=[ids[place] for place in places],
                        embeddings=array[places],
                        documents=[part[place].text for place in places],
                        metadatas=[
                            changed_keys(known.get(ids[place]), row_metadata(part[place], embedded_at))
                            for place in places
                        ],
                    )

    def replace(
        self,
        document_id: str,
        rows: Sequence[Row],
        vectors: "NDArray[np.float32]",
        embedded_at: str,
        *,
        only_present: bool,
    ) -> Steps[bool]:
        """Only what was there before goes, so that of two at once on a server neither removes all of the other's."""
        before = yield from self.ids_of(document_id)
        if only_present and not before:
            return False
        yield from self.upsert(rows, vectors, embedded_at)
        new = {row.id for row in rows}
        yield from self.delete([each for each in before if each not in new])
        return True

    def re_embed(self, texts: Mapping[str, str], vectors: "NDArray[np.float32]", embedded_at: str) -> Steps[list[str]]:
        done: list[str] = []
        places = {row_id: place for place, row_id in enumerate(texts)}
        for part in parts(list(texts), self.batch):
            rows = yield from self.retrieve(part)
            same = [each for each in rows if each.text == texts[each.id]]
            if same:
                yield write(
                    self.there.update,
                    ids=[chroma_id(each.id) for each in same],
                    embeddings=vectors[[places[each.id] for each in same]],
                    metadatas=[{ROW: _metadata(each, each.metadata, embedded_at)[ROW]} for each in same],
                )
            done += [each.id for each in same]
        return done

    def update_metadata(self, ids: Sequence[str], predicate: Predicate, changes: Mapping[str, Any]) -> Steps[int]:
        """Of at most PAGE rows, those that still match."""
        answer = yield read(self.there.get, ids=[chroma_id(each) for each in ids], include=_SHOWN)
        chosen: list[str] = []
        metadatas: list[dict[str, Any]] = []
        for found, old in zip(found_in(answer), answer["metadatas"], strict=True):
            if matches(predicate, found.metadata):
                chosen.append(chroma_id(found.id))
                new = _metadata(found, {**found.metadata, **changes}, found.embedded_at)
                metadatas.append(changed_keys(old, new))
        if chosen:
            yield write(self.there.update, ids=chosen, metadatas=metadatas)
        return len(chosen)

    def query(self, vector: "NDArray[np.float32]", number: int, where: Where) -> Steps[tuple[list[str], list[float]]]:
        """Ids and measures of the nearest; the more are asked for, the more the index looks at."""
        answer = yield read(
            self.there.query,
            query_embeddings=[vector],
            n_results=number,
            where=_asked(where),
            include=["distances"],
        )
        return [own_id(each) for each in answer["ids"][0]], self._measures(answer["distances"][0])

    def nearest(
        self, vector: "NDArray[np.float32]", k: int, width: int, where: Where, *, vectors: bool
    ) -> Steps[list[Found]]:
        """The best k of `width` that the index finds; all it knows of them comes with the search where that is few."""
        if width > k:
            ids, measures = yield from self.query(vector, width, where)
            rows = yield from self.retrieve(ids[:k], where, vectors=vectors)
            known = dict(zip(ids, measures, strict=True))
            return [each._replace(score=known[each.id]) for each in rows]
        shown = [*_SHOWN, "distances", *(["embeddings"] if vectors else [])]
        answer = yield read(
            self.there.query, query_embeddings=[vector], n_results=k, where=_asked(where), include=shown
        )
        first = {name: answer[name][0] for name in ("ids", *shown)}
        return found_in(first, self._measures(first["distances"]))

    def retrieve(self, ids: Sequence[str], where: Where = True, *, vectors: bool = False) -> Steps[list[Found]]:
        """Rows in this order, absent ones left out."""
        there: dict[str, Found] = {}
        shown = [*_SHOWN, *(["embeddings"] if vectors else [])]
        for part in parts(list(dict.fromkeys(ids)), PAGE):
            asked = [chroma_id(each) for each in part]
            answer = yield read(self.there.get, ids=asked, where=_asked(where), include=shown)
            there |= {found.id: found for found in found_in(answer)}
        return [there[each] for each in ids if each in there]

    def ids(self, where: Where, words: Mapping[str, Any] | None = None) -> Steps[list[str]]:
        """All at once, since Chroma pages by numbers, which deletes move; a hundred thousand take 0.2 s."""
        if where is False:
            return []
        answer = yield read(self.there.get, where=_asked(where), where_document=words, include=[])
        return [own_id(each) for each in answer["ids"]]

    def ids_of(self, document_id: str) -> Steps[list[str]]:
        """The rows of a document: a row that has its id names none."""
        own = yield from self.retrieve([document_id])
        others = yield from self.ids({DOCUMENT: {"$eq": document_id}})
        return [*(each.id for each in own if each.document_id == document_id), *others]

    def count(self, where: Where) -> Steps[int]:
        if where is not True:
            return len((yield from self.ids(where)))
        return int((yield read(self.there.count)))

    def delete(self, ids: Sequence[str], where: Where = True, meets: Meets | None = None) -> Steps[int]:
        """Delete those that are there and meet both; return how many: Chroma counts what it is asked for."""
        total = 0
        for part in parts(list(dict.fromkeys(ids)), PAGE):
            asked = [chroma_id(each) for each in part]
            if meets is None:
                answer = yield read(self.there.get, ids=asked, where=_asked(where), include=[])
                chosen = answer["ids"]
            else:
                rows = yield from self.retrieve(part, where)
                chosen = [chroma_id(each.id) for each in rows if meets(each)]
            if chosen:
                yield write(self.there.delete, ids=chosen)
            total += len(chosen)
        return total

    def _measures(self, distances: Sequence[float]) -> list[float]:
        """Chroma's are 1 - cosine, 1 - inner product, and the square of the distance."""
        if self.contract.distance == Distance.L2:
            return [max(float(each), 0.0) ** 0.5 for each in distances]
        return [1 - float(each) for each in distances]


def parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _asked(where: Where) -> dict[str, Any] | None:
    return where if isinstance(where, dict) else None


def _metadata(found: Found, metadata: Mapping[str, Any], embedded_at: str) -> dict[str, Any]:
    return row_metadata(make_row(found.id, found.document_id, found.text, metadata), embedded_at)
