"""Daemons whose wall clock is wrong: at a start, for a while, after a suspend; and summer time."""

from __future__ import annotations

import asyncio
import time

import debian
import pytest
from flows import Flows
from support import follow

from daemon import home
from daemon.client import Client
from daemon.web.auth import Tokens, load_secret

DAY = 86_400.0
PRUNING = {"AGENTCMD_JOURNAL__PRUNE_INTERVAL": "0.05", "AGENTCMD_FILE__TRASH_DAYS": "1"}


@pytest.fixture
def clock(daemon_process, tmp_path):
    """Set the wall clock of the daemon: seconds ahead of ours; its other clocks stay right."""
    root = debian.unpacked("faketime", "libfaketime")
    (library,) = root.rglob("libfaketimeMT.so.1")
    file = tmp_path / "faketime"

    def move(seconds: float) -> None:
        fresh = file.with_suffix(".new")
        fresh.write_text(f"{seconds:+.0f}")
        fresh.replace(file)

    move(0)
    daemon_process.environ |= PRUNING | {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    yield move
    if daemon_process.runs:  # under this library a timed wait for a thread may fail with EINVAL
        daemon_process.kill()


def client_of(process, ahead=0.0):
    tokens = Tokens(load_secret(process.state_dir, "", {}))
    return Client(
        lambda: home.discover(process.state_dir),
        token=lambda: tokens.mint("tester", ttl=max(ahead, 0) + DAY),
    )


class Kept:
    """What retention, or an age, might delete."""

    def __init__(self, client, folder):
        self.client, self.folder = client, folder

    @classmethod
    async def made(cls, client, folder):
        kept = cls(client, folder)
        kept.flows = await Flows.of(client, folder, done="- {id: one, run: echo done > file}")
        created = await client.call("session.create", {"agent": "command", "argv": ["echo", "x"]})
        kept.session = f"session:{created['sessionId']}"
        await follow(client, kept.session)
        kept.run = (await kept.flows.done("done")).id
        place = {"projectId": kept.flows.project, "path": "file"}
        await client.call("file.delete", place)
        return kept

    async def all_of_it(self, client):
        events = await follow(client, self.session)
        assert [event.offset for event in events] == list(range(1, len(events) + 1))
        assert (await client.call("workflow.get", {"runId": self.run}))["run"]["state"] == "ended"
        trash = await client.call("file.trash_list", {"projectId": self.flows.project})
        assert [each["path"] for each in trash["discarded"]] == ["file"]


async def test_a_clock_that_is_a_year_ahead_at_one_start_deletes_nothing(
    daemon_process, clock, tmp_path
):
    await asyncio.to_thread(daemon_process.start)
    async with client_of(daemon_process) as client:
        kept = await Kept.made(client, tmp_path / "project")
    daemon_process.kill()
    for ahead in (365 * DAY, 0):
        clock(ahead)
        await asyncio.to_thread(daemon_process.start)
        async with client_of(daemon_process, ahead) as client:
            await asyncio.sleep(1)  # many times the interval of clean-ups
            await kept.all_of_it(client)
        daemon_process.kill()


async def test_a_clock_that_is_forty_days_ahead_for_six_seconds_deletes_nothing_and_ends_no_wait(
    daemon_process, clock, tmp_path
):
    await asyncio.to_thread(daemon_process.start)
    async with client_of(daemon_process, 40 * DAY) as client:
        kept = await Kept.made(client, tmp_path / "project")
        kept.flows.write("waits", "- {id: rest, sleep: 10m}")
        waits = await kept.flows.start("waits")
        await waits.until("workflow.run.step.waiting")
        clock(40 * DAY)
        await asyncio.sleep(6)
        await kept.all_of_it(client)
        clock(0)
        await asyncio.sleep(1)
        await kept.all_of_it(client)
        run = (await client.call("workflow.get", {"runId": waits.id}))["run"]
        assert run["state"] == "waiting"
        await client.call("workflow.cancel", {"runId": waits.id})


async def test_what_was_due_in_an_hours_suspend_is_due_on_waking(daemon_process, clock, tmp_path):
    await asyncio.to_thread(daemon_process.start)
    async with client_of(daemon_process, 3600) as client:
        flows = await Flows.of(
            client,
            tmp_path / "project",
            sleeps="- {id: rest, sleep: 10m}",
            asks="- {id: ask, approve: 'Well?', timeout-minutes: 10, otherwise: approve}",
            retries="- {id: again, run: 'test -e made || { touch made; exit 1; }',"
            " retries: {max: 1, backoff: 10m}}",
            later="- {id: later, sleep: 2h}",
        )
        started = [await flows.start(name) for name in ("sleeps", "asks", "retries", "later")]
        for flow in started[:2]:
            await flow.until("workflow.run.step.waiting")
        await started[2].until("workflow.run.step.retrying")
        clock(3600)
        for flow in started[:3]:
            assert (await flow.end())["type"] == "completed"
        run = (await client.call("workflow.get", {"runId": started[3].id}))["run"]
        assert run["state"] == "waiting"
        await client.call("workflow.cancel", {"runId": started[3].id})


@pytest.mark.parametrize("moment", ["2027-03-28T00:59:58Z", "2027-10-31T00:59:58Z"])
async def test_a_change_of_summer_time_moves_no_deadline(daemon_process, clock, tmp_path, moment):
    daemon_process.environ["TZ"] = "Europe/Berlin"
    ahead = time.mktime(time.strptime(moment, "%Y-%m-%dT%H:%M:%SZ")) - time.timezone - time.time()
    clock(ahead)
    await asyncio.to_thread(daemon_process.start)
    async with client_of(daemon_process, ahead) as client:
        flows = await Flows.of(client, tmp_path / "project", naps="- {id: nap, sleep: 5}")
        began = time.monotonic()
        nap = await flows.start("naps")
        waiting = await nap.until("workflow.run.step.waiting")
        end = await nap.end()
        assert end["type"] == "completed"
        assert time.monotonic() - began < 60
        events = {message.type: message for message in nap.seen}
        done = events["workflow.run.step.completed"]
        assert 0 <= done.ts - waiting["until"] < 30
