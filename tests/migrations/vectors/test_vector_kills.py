"""Processes that are killed behind each of their statements, and processes that come at once."""

import json
from pathlib import Path

from app.db import DataLayer

from .places import Place, Program
from .test_vector_stores import ROWS


async def test_a_kill_behind_any_statement_is_repaired(place: Place) -> None:
    place.write(
        "001_years",
        """
        self.create_vector_collection("pictures", 3, "l2")
        self.create_payload_index("documents", "year", "integer")
        self.convert_field("documents", "year", lambda year: year + 1000, batch_size=25)
        """,
    )
    program = Program(place)
    try:
        async with fresh(place) as data:
            await place.seed(data, ROWS)
        told = program.run("up")
        assert (told["killed"], told["error"]) == (False, "")
        async with place.layer() as data:
            clean = await place.state(data)
        assert [entry["state"] for entry in clean["ledger"]] == ["applied"]
        assert told["statements"] >= 10
        for statement in range(1, told["statements"] + 1):
            ...
    finally:
        program.end()
