"""What the gateway adds to a bare call of the upstream: plain completions, one client and 64, same run, in turn.

    python benchmarks/gateway_overhead.py --requests 2000

Reach: at most 2 ms more at the median with one client, 800 requests a second on one worker with 64.
"""

from __future__ import annotations

import argparse

from engine_openai import upstream
from gateway_load import gateway, load

BODY = {"max_tokens": 256}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--delay", type=float, default=0.02)
    options = parser.parse_args()
    with upstream("--delay", str(options.delay)) as bare, gateway(bare) as (url, pid):
        for clients in (1, 64):
            n = options.requests if clients > 1 else options.requests // 10
            for where in (bare, url):
                load(where, pid, clients, max(n // 5, clients), BODY)
            direct, through = load(bare, pid, clients, n, BODY), load(url, pid, clients, n, BODY)
            print(
                f"{clients:3} clients: bare {direct.rate:6.0f}/s p50 {direct.percentile(0.5):6.1f} ms; through the "
                f"gateway {through.rate:6.0f}/s p50 {through.percentile(0.5):6.1f} ms "
                f"({through.percentile(0.5) - direct.percentile(0.5):+.2f} ms), {through.cpu_ms:.2f} ms CPU a request"
            )


if __name__ == "__main__":
    main()
