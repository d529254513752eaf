"""Serves a GGUF file by the HTTP server of xllamacpp: prints its base URL, and ends with its standard input."""

from __future__ import annotations

import os
import sys

os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # before the library is loaded


def main(path: str) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_parallel = 4
    params.n_ctx = 2048
    params.warmup = False
    params.verbosity = -1
    server = xllamacpp.Server(params)
    print(f"{server.listening_address}/v1", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
