"""Processes that are killed behind each of their statements."""

from dataclasses import replace

from .places import Place, Program
from .test_vector_stores import ROWS

# Each fifth row changes, and would again if it was converted twice.
UP = """
self.create_vector_collection("pictures", 3, "l2")
self.create_payload_index("documents", "year", "integer")
self.convert_field("documents", "year", lambda year: year + 1000 if year % 5 == 0 else year, batch_size=25)
"""


async def test_a_kill_behind_any_statement_is_repaired(place: Place) -> None:
    with Program() as program:
        first = await seeded(place, 0)
        clean = program.run(first, "up", "state")
        assert (clean["killed"], clean["error"]) == (False, "")
        [_, state] = clean["told"]
        assert [entry["state"] for entry in state["ledger"]] == ["applied"]
        seen = set()
        for statement in range(1, clean["statements"] + 1):
            killed = await seeded(place, statement)
            assert program.run(killed, "up", statement=statement)["killed"], statement
            outcome = program.run(killed, "status", "repair", "up", "state")
            assert outcome["error"] == "", statement
            seen.update(outcome["told"][0])
            assert outcome["told"][-1] == state, statement
        assert seen >= {"interrupted", "applied"}


async def seeded(place: Place, number: int) -> Place:
    """A store that has the rows and nothing else: another directory, or the same server again."""
    another = replace(place, path=place.path / str(number))
    another.write("001_years", UP)
    async with another.layer() as data:
        await another.drop_everything(data)
        await another.seed(data, ROWS)
    return another
