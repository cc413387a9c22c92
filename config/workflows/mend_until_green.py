"""Runs a command until it succeeds; after each failure an agent mends, in one conversation.

agentcmd workflow run mend_until_green test='pytest -q' tries=5
"""

from domains.workflow import workflow


@workflow(name="Mend until green", phases=["mend", "give up"], timeout="4h")
async def mend_until_green(run, test: str, tries: int = 3):
    session = None
    async with run.phase("mend"):
        for mended in range(tries):
            tested = await run.command("test", test, timeout=1800)
            if tested.exit_code == 0:
                return {"mended": mended}
            fixed = await run.agent(
                "fix",
                session=session,
                permission_mode="acceptEdits",
                prompt=f"`{test}` fails. Mend it.\n{tested.stdout}\n{tested.stderr}",
            )
            session = fixed.session_id
    async with run.phase("give up"):
        last = await run.command("last", test, check=True)
        return {"mended": tries, "said": last.stdout}
