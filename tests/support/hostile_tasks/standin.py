"""A stand-in for the daemon: a keeper, under it a clinging process, a clinging server, a clinging command and a worker
whose task left a clinging tree; says "ready", and waits.

`standin.py MARK SILENCE`: run as a subprocess by the tests, which then kill or stop it
(PYTHONPATH: the tests' folder)."""

import sys
from pathlib import Path

import trio
from support.works import TESTS, command, hostile

from singd.edges.worker.executor import WorkerExecutor
from singd.edges.worker.keeper import KeeperClient
from singd.ports import ProcessSpec

HERE = Path(__file__).parent


async def main() -> None:
    mark, silence = sys.argv[1], float(sys.argv[2])
    clinger = (sys.executable, "-I", "-S", str(HERE / "clinger.py"), mark)
    keeper = KeeperClient(silence_s=silence)
    keeper.start()
    executor = WorkerExecutor(keeper, plugin_paths=(TESTS,))
    async with trio.open_nursery() as nursery:
        await nursery.start(keeper.serve)
        await nursery.start(executor.serve, print, lambda: None)
        await keeper.spawn(ProcessSpec(argv=(*clinger, "2"), env={}))
        await keeper.spawn(ProcessSpec(argv=(*clinger, "0"), env={}, server=True))
        executor.hand_over([command(*clinger, "2"), hostile("clings", {"mark": mark})])
        print("ready", keeper.pid, flush=True)
        await trio.sleep_forever()


trio.run(main)
