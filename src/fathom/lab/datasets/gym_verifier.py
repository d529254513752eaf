"""The process in which a verifier of reasoning-gym runs: ``[index, answer]`` on each line in, a score on each line out.

It ends when its input does. See :mod:`fathom.lab.datasets.gym`.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys

MEMORY = 4 << 30
CPU_SECONDS = 3600


def main() -> None:
    """Serve until standard input ends."""
    with contextlib.suppress(ImportError, ValueError):  # there are no such limits on Windows
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    out = os.fdopen(os.dup(1), "w")
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (what a verifier prints is no score)
    import reasoning_gym

    name, options = json.loads(sys.argv[1])
    made = reasoning_gym.create_dataset(name, **options)
    for line in sys.stdin:
        index, answer = json.loads(line)
        try:
            score = float(made.score_answer(answer, made[index]))
        except Exception:  # whatever a verifier raises on what a model wrote, it is not right
            score = 0.0
        print(score, file=out, flush=True)


if __name__ == "__main__":
    main()
