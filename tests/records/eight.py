"""Eight processes that begin at the same moment, for the programs of the tests of first use."""

import asyncio
import gc
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TextIO

Main = Callable[[str, int, TextIO], Coroutine[Any, Any, None]]
"""Of a place, which of the eight it is, and what to read from before it begins."""


def at_once(main: Main, practice: str, *places: str) -> None:
    """In each place, in processes forked from this one: it has done it all itself in the first, so that eight are eight
    at once on few processors too.
    """
    with Path(os.devnull).open() as now:
        asyncio.run(main(practice, 0, now))
    gc.freeze()
    for place in places:
        reading, writing = os.pipe()
        children = []
        for number in range(8):
            children.append(os.fork())
            if children[-1] == 0:
                os.close(writing)
                with os.fdopen(reading) as begin:
                    asyncio.run(main(place, number, begin))
                os._exit(0)
        os.close(reading)
        os.close(writing)  # which all of them wait for
        assert [os.waitstatus_to_exitcode(os.waitpid(each, 0)[1]) for each in children] == [0] * 8
