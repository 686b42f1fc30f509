"""Who wrote a record first and last, by a mixin of the model."""

import pytest

from ...core.actor import acting_as
from ...core.errors import InvalidChangeError
from ..models import Memo, Memos
from .base import Contract, Place


class AttributionContract(Contract):
    @pytest.fixture
    def memos(self, place: Place) -> Memos:
        memos: Memos = place(Memos)
        return memos

    async def test_every_write_has_its_author(self, memos: Memos) -> None:
        with acting_as("anna"):
            created = await memos.create(Memo(id="1", text="a", created_by="x", updated_by="x"))
            await memos.create_many([Memo(id="2", text="b")])
            await memos.put_if_absent(Memo(id="3", text="c"))
        assert (created.created_by, created.updated_by) == ("anna", "anna")
        assert {(each.created_by, each.updated_by) for each in await memos.all()} == {("anna", "anna")}
        with acting_as("bert"):
            await memos.update("1", {"text": "e"})
            await memos.update_many({"text": "b"}, {"text": "f"})
            await memos.update("3", {"views": 1})
        assert {(each.created_by, each.updated_by) for each in await memos.all()} == {("anna", "bert")}
        with acting_as("carl"):
            saved = await memos.save(created)
        assert (saved.created_by, saved.updated_by) == ("anna", "carl")

    async def test_an_upsert_keeps_who_created_it(self, memos: Memos) -> None:
        with acting_as("anna"):
            stored = await memos.upsert(Memo(id="1", text="a"))
        assert (stored.created_by, stored.updated_by) == ("anna", "anna")
        with acting_as("bert"):
            stored = await memos.upsert(Memo(id="1", text="b", created_by="x"))
        assert (stored.created_by, stored.updated_by) == ("anna", "bert")

    async def test_where_nobody_is_named_the_application_says(self, memos: Memos) -> None:
        nobody = await memos.create(Memo(id="1", text="a"))
        assert (nobody.created_by, nobody.updated_by) == (None, None)
        given = await memos.create(Memo(id="2", text="b", created_by="import"))
        assert (given.created_by, given.updated_by) == ("import", "import")
        changed = await memos.update("2", {"text": "c"})
        assert changed is not None
        assert (changed.created_by, changed.updated_by) == ("import", None)
        changed = await memos.update("2", {"updated_by": "script"})
        assert changed is not None
        assert (changed.created_by, changed.updated_by) == ("import", "script")
        stored = await memos.upsert(Memo(id="2", text="d"))
        assert (stored.created_by, stored.updated_by) == ("import", None)

    async def test_nobody_changes_who_created_it(self, memos: Memos) -> None:
        await memos.create(Memo(id="1", text="a"))
        for write in (memos.update("1", {"created_by": "x"}), memos.update_many({"text": "a"}, {"created_by": "x"})):
            with pytest.raises(InvalidChangeError, match="created_by"):
                await write
        with acting_as("anna"):
            changed = await memos.update("1", {"updated_by": "x"})
        assert changed is not None
        assert changed.updated_by == "anna"
