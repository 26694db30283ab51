"""Scanners and engines for asyncio as well."""

import asyncio
from typing import TypedDict

from . import _otedama


class EngineStats(TypedDict):
    """What an engine has done since it started."""

    hashes: list[int]
    """Attempts made, per worker; exact."""
    shares: int
    refused: int
    """Candidates that the verifier refused."""
    stale: int
    """Candidates dropped because their job had been replaced."""
    abandoned: int
    """Attempts handed to a worker that was lost."""
    alive: int
    """Workers not lost."""


class Scanner(_otedama.Scanner):
    __doc__ = _otedama.Scanner.__doc__

    def __aiter__(self) -> "Scanner":
        return self

    async def __anext__(self) -> _otedama.Share:
        loop = asyncio.get_running_loop()
        while True:
            share = self._take()
            if share is not None:
                return share
            if self.done:
                raise StopAsyncIteration
            # Some 20 ms at a time, so that a cancelled task leaves no thread behind that scans on.
            await loop.run_in_executor(None, self._advance)


class Engine(_otedama.Engine):
    __doc__ = _otedama.Engine.__doc__

    def __aiter__(self) -> "Engine":
        return self

    async def __anext__(self) -> _otedama.Share:
        while True:
            # Asked first: what is found between the two questions is taken.
            done = self.done
            share = self._take()
            if share is not None:
                return share
            if done:
                raise StopAsyncIteration
            await asyncio.sleep(0.01)
