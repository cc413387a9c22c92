"""The fan-out's child: `COUNT PER GAP` writes COUNT bursts of PER lines, GAP seconds apart.

Each burst is one write; each line carries the time at which it was written, in nanoseconds.
"""

import os
import sys
import time

count, per, gap = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
due = time.perf_counter()
for burst in range(count):
    now = time.time_ns()
    lines = (f"burst {burst} line {n} at t={now} {'.' * 40}\n" for n in range(per))
    os.write(1, "".join(lines).encode())
    due += gap
    time.sleep(max(0.0, due - time.perf_counter()))
