"""Scanners and engines for asyncio as well."""

import asyncio

from . import _otedama


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
