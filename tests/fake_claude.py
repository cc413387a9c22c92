#!/usr/bin/env python3
"""A scripted agent that speaks claude's protocol: each prompt is `COUNT GAP`, so many messages.

For loads that the real program cannot make: it answers nothing but prompts, and uses no model.
"""

import itertools
import json
import sys
import time

numbers = itertools.count(1)


def say(**line: object) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


for asked in sys.stdin:
    content = json.loads(asked)["message"]["content"]
    count, gap = content[0]["text"].split()
    say(type="system", subtype="init", session_id="fake", model="fake")
    due = time.monotonic()
    for _ in range(int(count)):
        number = next(numbers)
        block = {"type": "text", "text": f"message {number} {'.' * 40}"}
        say(type="assistant", uuid=f"u{number}", message={"id": f"m{number}", "content": [block]})
        due += float(gap)
        time.sleep(max(0.0, due - time.monotonic()))
    say(type="result", subtype="success", is_error=False, result="done", duration_ms=1)
