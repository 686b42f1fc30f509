"""Ids made on the client: as unique as MongoDB's own, in every thread and in every forked child."""

import os
import threading
import time

import pytest
from pydantic import BaseModel, ValidationError

from app.db.models.base import Entity, PyObjectId, is_object_id, new_object_id


def test_ids_are_object_ids_that_sort_by_time() -> None:
    before = int(time.time())
    made = new_object_id()
    assert is_object_id(made)
    assert before <= int(made[:8], 16) <= int(time.time())
    assert Entity().id != Entity().id


def test_threads_make_no_id_twice() -> None:
    made: list[list[str]] = [[] for _ in range(8)]
    threads = [
        threading.Thread(target=lambda own=own: own.extend(new_object_id() for _ in range(5000))) for own in made
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({each for own in made for each in own}) == 40_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_makes_other_ids() -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, "".join(new_object_id() for _ in range(100)).encode())
        os._exit(0)
    own = {new_object_id() for _ in range(100)}
    os.waitpid(child, 0)
    text = os.read(read, 10_000).decode()
    os.close(read)
    os.close(write)
    theirs = {text[i : i + 24] for i in range(0, len(text), 24)}
    assert len(theirs) == 100
    assert not own & theirs
    assert {each[8:18] for each in own} != {each[8:18] for each in theirs}


class Linked(BaseModel):
    other: PyObjectId


def test_an_object_id_field_takes_24_hex_digits() -> None:
    assert Linked(other="507F1F77BCF86CD799439011").other == "507f1f77bcf86cd799439011"
    for wrong in ("507f1f77bcf86cd79943901", "507f1f77bcf86cd79943901g", "", "507f1f77bcf86cd799439011\n"):
        with pytest.raises(ValidationError):
            Linked(other=wrong)
