"""Hostile programs meet the sandbox's walls. What they try is what a model could write; here it fails."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fathom.errors import LimitError
from fathom.judges.sandbox import Sandbox, SandboxLimits, remove


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0


QUICK = SandboxLimits(seconds=2.0, cpu_seconds=1, memory=256 * 2**20)
PATIENT = SandboxLimits(seconds=20.0, cpu_seconds=10, memory=256 * 2**20)


def _descendants() -> set[int]:
    """Processes that run the jail's script on our behalf: its first argument is who asked for it."""
    found, ours = set(), b"_jail.py\0%d\0" % os.getpid()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if ours in (entry / "cmdline").read_bytes():
                found.add(int(entry.name))
        except OSError:
            continue
    return found


async def _number_of_descendants(number: int) -> None:
    """Returns when there are so many. What ends is gone soon; all that these tests start would run for minutes."""
    async with asyncio.timeout(60):
        while len(_descendants()) != number:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_runs_a_program_with_input_and_output() -> None:
    secret = str(random.random())
    result = await Sandbox().run(
        "import sys; print(input()[::-1]); print('aside', file=sys.stderr)", stdin=secret.encode()
    )
    assert (result.status, result.stdout, result.stderr) == ("ok", f"{secret[::-1]}\n".encode(), b"aside\n")
    assert 0 < result.seconds <= Sandbox().limits.seconds


async def test_a_program_sees_its_libraries_an_empty_directory_and_nothing_else() -> None:
    program = """
import asyncio, collections, fractions, hashlib, json, math, os, random, re, sqlite3, statistics, sys, threading, typing
print(os.listdir(), sorted(set(os.environ) - {"LC_CTYPE"}), sys.argv, __name__)
open("file.txt", "w").write("mine")
print(open("file.txt").read())
thread = threading.Thread(target=lambda: print("thread")); thread.start(); thread.join()
for descriptor in range(3, 256):
    try: os.fstat(descriptor); print("inherited", descriptor)
    except OSError: pass
asyncio.run(asyncio.sleep(0))
"""
    result = await Sandbox(PATIENT).run(program)
    assert result.stdout.decode() == "[] [] ['program.py'] __main__\nmine\nthread\n", result.stderr
    assert result.status == "ok"


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("1/0", "error"),
        ("raise SystemExit(3)", "error"),
        ("import os; os._exit(0)", "ok"),
        ("def f(:", "error"),
        ("x = bytearray(10**10)", "memory"),
        ("import os; os.abort()", "killed"),
        ("while True: print('x' * 10000)", "killed"),
        ("import os; os.close(1); os.close(2)", "ok"),
        ("import sys; sys.stdout.buffer.write(bytes(range(256)))", "ok"),
    ],
)
async def test_says_how_a_program_ended(program: str, status: str) -> None:
    result = await Sandbox(PATIENT).run(program)
    assert result.status == status, result


@pytest.mark.slow
@pytest.mark.parametrize(
    "program",
    [
        "while True: pass",
        "import time; time.sleep(1000)",
        "import signal, time\nfor n in range(1, 65):\n  try: signal.signal(n, signal.SIG_IGN)\n"
        "  except Exception: pass\nwhile True: time.sleep(1)",
        "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass",
        "import os, time\nif os.fork() == 0:\n  os.setsid()\n  while True: time.sleep(1)\nwhile True: time.sleep(1)",
        "import sys; sys.stdin.read(); import threading; threading.Event().wait()",
        "import re; re.match('(a+)+$', 'a' * 60 + 'b')",
    ],
    ids=["spin", "sleep", "deaf", "fork bomb", "session", "wait", "regex"],
)
async def test_time_is_up_for_everything(program: str) -> None:
    began = time.monotonic()
    result = await Sandbox(QUICK).run(program)
    assert result.status == "timeout"
    assert time.monotonic() - began < QUICK.seconds + 60
    await _number_of_descendants(0)


async def test_deep_recursion_harms_nobody() -> None:
    program = "import sys; sys.setrecursionlimit(10**9)\nf = lambda: f()\nf()"
    result = await Sandbox(QUICK).run(program)
    assert result.status in ("memory", "killed", "error", "timeout")


async def test_what_a_program_leaves_running_ends_with_it() -> None:
    program = (
        "import os, time\nfor _ in range(3):\n  if os.fork() == 0:\n    os.setsid(); time.sleep(1000)\nprint('gone')"
    )
    result = await Sandbox(PATIENT).run(program)
    assert (result.status, result.stdout) == ("ok", b"gone\n")
    await _number_of_descendants(0)


async def test_the_network_is_out_of_reach() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        program = f"""
import socket
for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, 40):
    try:
        s = socket.socket(family, socket.SOCK_STREAM)
        s.connect(("127.0.0.1", {server.getsockname()[1]}))
        print("connected", family)
    except OSError as error:
        print("refused")
"""
        result = await Sandbox(PATIENT).run(program)
        assert result.stdout == b"refused\n" * 4
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.fixture
def exposed() -> Iterator[Path]:
    """A directory that every user of this machine may write in, with a file in it."""
    with tempfile.TemporaryDirectory() as directory:
        own = Path(directory) / "own.txt"
        own.write_text("ours")
        own.chmod(0o666)
        Path(directory).chmod(0o777)
        yield Path(directory)


def _contents(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}


async def test_files_are_out_of_reach(exposed: Path) -> None:
    own = str(exposed / "own.txt")
    program = f"""
import os
for path in ("/etc/shadow", "/etc/passwd", {own!r}, {__file__!r}):
    try: print("read", open(path).read(20))
    except OSError: pass
for path in ({own!r}, {own!r} + "new", os.path.expanduser("~/new"), "/usr/lib/new", os.__file__, "/root/new"):
    try: print("wrote", path, open(path, "w").write("x"))
    except OSError: pass
for path in ({own!r}, os.__file__):
    try: os.unlink(path); print("removed", path)
    except OSError: pass
"""
    result = await Sandbox(PATIENT).run(program)
    said = [line for line in result.stdout.decode().splitlines() if not line.startswith("wrote /new")]
    assert said == [], result  # what "/" is to the program is its own, and in memory
    assert _contents(exposed) == {"own.txt": "ours"}


async def test_privileges_are_out_of_reach() -> None:
    program = """
import ctypes, os, subprocess
libc = ctypes.CDLL(None, use_errno=True)
def refused(result): print("refused" if result < 0 else "allowed")
refused(libc.unshare(0x10000000)); refused(libc.ptrace(0, 0, 0, 0))
refused(libc.mount(b"none", b"/", None, 4096, None))
refused(libc.chroot(b"/")); refused(libc.setuid(0))
try: subprocess.run(["/bin/sh", "-c", "true"]); print("allowed")
except OSError: print("refused")
import resource
try: resource.setrlimit(resource.RLIMIT_AS, (-1, -1)); print("allowed")
except ValueError: print("refused")
"""
    result = await Sandbox(PATIENT).run(program)
    assert result.stdout == b"refused\n" * 7, result


async def test_resources_are_bounded() -> None:
    limits = SandboxLimits(seconds=20, disk=2**20, processes=5, open_files=16)
    program = """
import os, threading, time
def until_refused(what):
    n = 0
    try:
        while n < 500: what(n); n += 1
    except (OSError, RuntimeError): pass
    print(n)
held = []
until_refused(lambda n: held.append(open("/dev/null")))
held.clear()
until_refused(lambda n: open(f"file{n}", "wb").write(bytes(2**18)))
def sleeper(n): threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
until_refused(sleeper)
try: open("big", "wb").write(bytes(2**24)); print("wrote")
except OSError: print("refused")
"""
    result = await Sandbox(limits).run(program)
    files, disk, processes, big = result.stdout.decode().split()
    assert int(files) < 16
    assert int(disk) <= 4
    assert int(processes) < 5
    assert big == "refused"


async def test_many_run_side_by_side_without_meeting() -> None:
    program = "import os, sys; print(sys.stdin.read(), os.listdir()); open(sys.stdin.name and 'x', 'w').close()"
    results = await asyncio.gather(*(Sandbox(PATIENT).run(program, stdin=b"%d" % n) for n in range(8)))
    assert [result.stdout for result in results] == [b"%d []\n" % n for n in range(8)]


async def test_output_is_capped_and_does_not_fill_memory() -> None:
    limits = SandboxLimits(seconds=20, output=1000)
    result = await Sandbox(limits).run("import sys\nwhile True: sys.stderr.write('y' * 2**16)")
    assert (result.status, result.stderr) == ("killed", b"y" * 1000)


async def test_cancelling_kills_and_leaves_nothing_behind() -> None:
    patient = SandboxLimits(seconds=600)
    task = asyncio.create_task(Sandbox(patient).run("import time; time.sleep(1000)"))
    await _number_of_descendants(2)  # the program and its watcher
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 60
    await _number_of_descendants(0)


def test_leaves_no_directory_and_no_descriptor_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    async def run() -> None:
        sandbox = Sandbox(PATIENT)
        await sandbox.run("open('x', 'w').write('y')")
        task = asyncio.create_task(sandbox.run("import time; time.sleep(1000)"))
        await _number_of_descendants(2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    gc.collect()  # what earlier tests forgot closes no descriptor while these are counted
    descriptors = _descriptors()
    asyncio.run(run())
    assert _descriptors() <= descriptors
    assert list(tmp_path.iterdir()) == []


def test_a_directory_is_removed_however_it_was_filled(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "link").symlink_to("/etc")
    (work / "file").write_text("x")
    os.chdir(work)
    for _ in range(400):  # deeper than any path may be long
        os.mkdir("d" * 20)
        os.chdir("d" * 20)
    os.chdir(tmp_path)
    remove(str(work))
    assert not work.exists()
    assert Path("/etc").exists()


async def test_tells_what_holds_here() -> None:
    isolation = await Sandbox().isolation()
    if os.uname().sysname == "Linux":
        assert isolation.network != "none"
        assert isolation.files != "user rights"
        assert isolation.memory


@pytest.mark.parametrize("limits", [{"seconds": 0}, {"memory": 1}, {"processes": -1}, {"seconds": float("nan")}])
def test_limits_that_make_no_sense_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(LimitError) as caught:
        SandboxLimits(**limits)  # type: ignore[arg-type]
    assert caught.value.limit in limits
