"""A stand-in for the daemon: starts a keeper and clinging processes under it, says "ready", and waits.

`standin.py MARK SILENCE`: run as a subprocess by the tests, which then kill or stop it."""

import sys
from pathlib import Path

import trio

from singd.edges.worker.keeper import KeeperClient
from singd.ports import ProcessSpec

CLINGER = Path(__file__).with_name("clinger.py")


async def main() -> None:
    mark, silence = sys.argv[1], float(sys.argv[2])
    keeper = KeeperClient(silence_s=silence)
    keeper.start()
    async with trio.open_nursery() as nursery:
        await nursery.start(keeper.serve)
        for server in (False, True):
            argv = (sys.executable, "-I", "-S", str(CLINGER), mark, "0" if server else "2")
            await keeper.spawn(ProcessSpec(argv=argv, env={}, server=server))
        print("ready", keeper.pid, flush=True)
        await trio.sleep_forever()


trio.run(main)
