"""A bound on what runs at once, in two frames where `asyncio.Semaphore` takes eight."""

import asyncio
from collections import deque


class Slots:
    """Of one loop. Who waits gets a slot before whoever comes later."""

    def __init__(self, number: int) -> None:
        self._free = number
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take(self) -> bool:
        """Take one without waiting; whether there was one."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def wait(self) -> None:
        """Wait for one and take it."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it was given one at the same time
                self.give_back()
            raise

    def give_back(self) -> None:
        """Hand it to the first who waits: it is not free in between, so nobody can overtake."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
