"""Runs Python code of a hostile model: in its own process, behind every wall that the kernel grants, within limits.

What holds on Linux, best case (as root, or as a user who may create user namespaces; `Sandbox.isolation` tells what
holds here):

- *files*: a root directory of its own in memory, with the standard library and shared libraries to read and an empty
  ``/tmp`` to write in. No other file exists for the program, nor any executable. Where mounts are refused, Landlock
  gives the same rights on the real file system.
- *network*: a network namespace without interfaces; and seccomp refuses every socket.
- *processes*: a PID namespace that dies with its first process; elsewhere the process group and all orphans are killed.
- *privileges*: root becomes nobody; no capabilities, no new privileges; seccomp refuses to start programs, trace
  processes, mount, make namespaces, load code into the kernel, and share memory outside the limits.
- *resources*: wall and CPU time, address space, size of files and of the whole of /tmp, processes and threads, open
  files, output; no core dumps. No environment variables, no inherited descriptors, isolated mode, no site-packages.

What is NOT protected: a bug in the kernel or the CPU (a virtual machine is the answer to those); time and memory
together across processes (each process has the full CPU and memory limit, so at worst `processes` times as much); side
channels such as timing; the program sees the host's kernel version and clock. On macOS there are no namespaces,
no seccomp and no limit on memory: only the other limits, and the program can read files and reach the network. Windows
has no such limits at all, so there a `Sandbox` is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fathom.errors import CapabilityError, EngineError, LimitError

__all__ = ["Isolation", "Sandbox", "SandboxLimits", "SandboxResult", "remove"]

Status = Literal["ok", "error", "timeout", "memory", "killed"]

_JAIL = Path(__file__).with_name("_jail.py")
_NETWORK: dict[tuple[bool, bool], Literal["namespace and seccomp", "namespace", "seccomp", "none"]] = {
    (True, True): "namespace and seccomp",
    (True, False): "namespace",
    (False, True): "seccomp",
    (False, False): "none",
}
_SLACK = 10.0  # seconds beyond its limit that a sandbox may take to start and to end itself, on a busy machine
_GRACE = 2.0  # seconds that one that is told to end has for that, before it is killed from here


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """What a program may use. Sizes in bytes; `cpu_seconds`, `memory`, `open_files` hold for each of its processes."""

    seconds: float = 10.0
    cpu_seconds: int = 8
    memory: int = 512 * 2**20
    disk: int = 16 * 2**20
    processes: int = 16
    open_files: int = 64
    output: int = 2**20

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise LimitError(name, f"the sandbox's limit {name!r} must be positive and finite, not {value!r}")
        if self.memory < 64 * 2**20:
            raise LimitError("memory", f"the sandbox's interpreter itself needs 64 MiB of memory, not {self.memory}")


@dataclass(frozen=True, slots=True)
class SandboxResult:
    """How a program ended. ``ok``: with exit status 0. ``error``: with another, e.g. after an exception. ``timeout``:
    its wall or CPU time was up. ``memory``: it met the memory limit. ``killed``: by a signal, or for too much output.

    The program chooses its exit status, so ``ok`` says that it ended, not that it did what was asked.
    """

    status: Status
    stdout: bytes
    stderr: bytes
    seconds: float


@dataclass(frozen=True, slots=True)
class Isolation:
    """Which walls stand here, from strongest to none, found by running an empty program."""

    files: Literal["own root", "landlock", "user rights"]
    network: Literal["namespace and seccomp", "namespace", "seccomp", "none"]
    processes: Literal["namespace", "process group"]
    user: Literal["nobody", "own user, no privileges", "same user"]
    memory: bool

    @property
    def complete(self) -> bool:
        """Whether files, network, processes and memory are all confined."""
        strong = self.files != "user rights" and self.network != "none"
        return strong and self.processes == "namespace" and self.memory


@dataclass(frozen=True, slots=True)
class _Report:
    walls: frozenset[str]
    how: str
    code: int
    seconds: float
    cpu: float


class Sandbox:
    """Runs programs, each in a sandbox of its own. Has no state but its default limits; calls may overlap."""

    def __init__(self, limits: SandboxLimits | None = None) -> None:
        if os.name != "posix":
            raise CapabilityError("model code is only run in a sandbox, which needs Linux or macOS")
        self.limits = limits or SandboxLimits()

    async def run(self, source: str, *, stdin: bytes = b"", limits: SandboxLimits | None = None) -> SandboxResult:
        """Runs `source` as a program with `stdin` as its input. Nothing that the program does raises.

        Cancelling the call kills the program. Costs about 50 ms beyond what the program does. Raises EngineError where
        the kernel refuses a wall that must stand: then the program has not run.
        """
        result, _ = await self._run(source, stdin, limits or self.limits)
        return result

    async def isolation(self) -> Isolation:
        """Which walls stand on this machine for this user."""
        _, report = await self._run("", b"", self.limits)
        walls = report.walls if report is not None else frozenset()
        namespaces, seccomp = "namespaces" in walls, "seccomp" in walls
        return Isolation(
            files="own root" if "root" in walls else "landlock" if "landlock" in walls else "user rights",
            network=_NETWORK[namespaces, seccomp],
            processes="namespace" if namespaces else "process group",
            user="nobody"
            if "nobody" in walls
            else "own user, no privileges"
            if sys.platform == "linux"
            else "same user",
            memory=sys.platform == "linux",
        )

    async def _run(self, source: str, stdin: bytes, limits: SandboxLimits) -> tuple[SandboxResult, _Report | None]:
        code = source.encode("utf-8", "surrogatepass")
        work = tempfile.mkdtemp(prefix="fathom-sandbox-")
        listen, tell = os.pipe()
        try:
            numbers = (limits.cpu_seconds, limits.memory, limits.disk, limits.processes, limits.open_files)
            process = await asyncio.create_subprocess_exec(
                getattr(sys, "_base_executable", sys.executable), "-I", "-S", "-B", "-X", "utf8", str(_JAIL),
                *map(str, (os.getpid(), tell, len(code), work, limits.seconds, *map(int, numbers))),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
                env={}, pass_fds=(tell,), start_new_session=True, cwd=work,
            )  # fmt: skip
            os.close(tell)
            tell = -1
            outputs = [_Output(process, limits.output), _Output(process, limits.output)]
            try:
                async with asyncio.timeout(limits.seconds + _SLACK):
                    await asyncio.gather(
                        _feed(process.stdin, code + stdin),
                        outputs[0].read(process.stdout),
                        outputs[1].read(process.stderr),
                        process.wait(),
                    )
            except TimeoutError:
                pass
            finally:
                await _end(process)
            report = _read_report(listen)
            if report is None and b"_jail.py" in outputs[1].kept:
                raise EngineError(f"the sandbox could not be set up: {outputs[1].kept.decode(errors='replace')[-500:]}")
            return _result(report, outputs, limits), report
        finally:
            os.close(listen)
            if tell >= 0:
                os.close(tell)
            await asyncio.shield(asyncio.to_thread(remove, work))


class _Output:
    """The first `limit` bytes that a process writes to one stream; more of it ends the process."""

    def __init__(self, process: asyncio.subprocess.Process, limit: int) -> None:
        self._process, self._limit = process, limit
        self.kept = bytearray()
        self.overflowed = False

    async def read(self, stream: asyncio.StreamReader | None) -> None:
        while stream is not None and (piece := await stream.read(65536)):
            self.kept += piece[: self._limit - len(self.kept)]
            if len(self.kept) == self._limit and not self.overflowed:
                self.overflowed = True
                with contextlib.suppress(ProcessLookupError):
                    self._process.terminate()


async def _feed(stream: asyncio.StreamWriter | None, data: bytes) -> None:
    if stream is None:
        return
    with contextlib.suppress(ConnectionError):  # the program need not read its input
        stream.write(data)
        await stream.drain()
    stream.close()


async def _end(process: asyncio.subprocess.Process) -> None:
    """Asks the watcher to end the program and all that it started; takes the whole group down where it does not."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(_GRACE):
                await process.wait()
        except TimeoutError:
            pass
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _read_report(descriptor: int) -> _Report | None:
    """What the jail told: a line that names the walls, then one that says how the program ended."""
    os.set_blocking(descriptor, False)
    try:
        lines = os.read(descriptor, 4096).decode().splitlines()
    except BlockingIOError:
        return None
    if len(lines) != 2:
        return None  # the program never ran, or its watcher was ended
    how, code, seconds, cpu, _ = lines[1].split()
    return _Report(frozenset(lines[0].split()), how, int(code), float(seconds), float(cpu))


def _result(report: _Report | None, outputs: list[_Output], limits: SandboxLimits) -> SandboxResult:
    stdout, stderr = (bytes(output.kept) for output in outputs)
    status: Status
    if report is None or any(output.overflowed for output in outputs):
        status = "killed"
    elif report.how == "timeout" or (report.code < 0 and report.cpu >= 0.7 * limits.cpu_seconds):
        status = "timeout"
    elif report.code == 0:
        status = "ok"
    elif stderr.rstrip().rpartition(b"\n")[2].startswith(b"MemoryError"):
        status = "memory"
    else:
        status = "killed" if report.code < 0 else "error"
    return SandboxResult(status, stdout, stderr, report.seconds if report is not None else 0.0)


def remove(work: str) -> None:
    """Removes a directory that a hostile program filled, however deep: subdirectories are flattened, not descended."""
    fresh = 0
    with contextlib.suppress(OSError):
        os.rmdir(work)  # where the program had a root of its own, this one is empty
        return
    with contextlib.suppress(OSError):
        while entries := list(os.scandir(work)):
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.path)
                    continue
                os.chmod(entry.path, 0o700)
                for inner in os.listdir(entry.path):
                    fresh += 1
                    os.rename(os.path.join(entry.path, inner), os.path.join(work, f".{fresh}"))
                os.rmdir(entry.path)
        os.rmdir(work)
