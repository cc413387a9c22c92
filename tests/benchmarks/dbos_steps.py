"""The same on DBOS over SQLite: `python dbos_steps.py FOLDER RUNS STEPS` prints the seconds."""

from __future__ import annotations

import asyncio
import json
import sys
import time

from dbos import DBOS, DBOSConfig

PROBE = 0.005


@DBOS.step()
async def nothing(number: int) -> int:
    return number


@DBOS.workflow()
async def line(steps: int) -> None:
    for number in range(steps):
        await nothing(number)


async def main(folder: str, runs: int, steps: int) -> None:
    url = f"sqlite:///{folder}/dbos.sqlite"
    config: DBOSConfig = {"name": "bench", "system_database_url": url, "log_level": "ERROR"}
    config["run_admin_server"] = False
    DBOS(config=config)
    DBOS.launch()
    lags: list[float] = []

    async def sample() -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + PROBE
            await asyncio.sleep(PROBE)
            lags.append((loop.time() - due) * 1000)

    sampling = asyncio.ensure_future(sample())
    begun = time.perf_counter()
    await asyncio.gather(*(line(steps) for _ in range(runs)))
    seconds = time.perf_counter() - begun
    sampling.cancel()
    sys.stdout.write(json.dumps({"seconds": seconds, "lags": lags}) + "\n")
    sys.stdout.flush()
    DBOS.destroy()


asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
