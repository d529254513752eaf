"""The inside of the sandbox: a script that builds walls around itself and then runs a hostile program.

`sandbox.py` starts it with a bare interpreter; it imports nothing of Fathom and nothing slow. The process forks once:
the parent stays outside, keeps time, ends what is left over, and reports; the child goes through the walls, which are
as many as the kernel grants, and runs the program. Each wall that stands is named in the report.

Arguments: parent's pid, report descriptor, length of the source, work directory, then the limits: wall seconds, CPU
seconds, memory bytes, file bytes, processes, open files. The source comes first on standard input; what follows it is
the program's own input.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import time
import types
from collections.abc import Callable
from typing import Any

NOBODY = 65534
MACHINE = os.uname().machine
LINUX = sys.platform == "linux"

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE, MS_RELATIME = (
    1, 2, 4, 32, 4096, 16384, 1 << 18, 1 << 21,
)  # fmt: skip
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 36, 38

# System calls that the program has no business with, by machine: (x86_64, aarch64).
FORBIDDEN = {
    "socket": (41, 198), "connect": (42, 203), "execve": (59, 221), "execveat": (322, 281), "ptrace": (101, 117),
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "chroot": (161, 51), "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "open_by_handle_at": (304, 265),
    "memfd_create": (319, 279), "kexec_load": (246, 104), "init_module": (175, 105), "finit_module": (313, 273),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsmount": (432, 432),
    "mount_setattr": (442, 442), "pidfd_getfd": (438, 438), "mq_open": (240, 180), "shmget": (29, 194),
}  # fmt: skip
CLONE = {"x86_64": 56, "aarch64": 220}
CLONE3 = 435
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


class Kernel:
    """The C library's system calls that Python does not offer. A call that fails raises OSError."""

    def __init__(self) -> None:
        import ctypes

        self.ctypes = ctypes
        self.libc = ctypes.CDLL(None, use_errno=True)

    def __getattr__(self, name: str) -> Callable[..., int]:
        function = getattr(self.libc, name)

        def call(*arguments: Any) -> int:
            if name == "syscall":  # variadic: every argument must be as wide as a register
                arguments = tuple(self.ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)
            elif name == "prctl":
                arguments = (arguments[0], *map(self.ctypes.c_ulong, (*arguments[1:], 0, 0, 0, 0)[:4]))
            result = int(function(*arguments))
            if result < 0:
                raise OSError(self.ctypes.get_errno(), f"{name}: {os.strerror(self.ctypes.get_errno())}")
            return result

        return call


def readable_paths() -> list[str]:
    """What a Python program needs to see of the file system: its standard library and the shared libraries."""
    paths = ["/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache"]
    for path in (os.path.join(sys.base_prefix, "lib"), *sys.path):
        if not any(path == known or path.startswith(known + "/") for known in paths):
            paths.append(path)
    return [path for path in paths if os.path.exists(path)]


def isolate(kernel: Kernel) -> None:
    """New namespaces for processes, network, mounts and the rest, as root or through a user namespace of one's own."""
    flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS
    uid, gid = os.geteuid(), os.getegid()
    try:
        if uid != 0:
            raise OSError("not root")
        kernel.unshare(flags)
    except OSError:
        kernel.unshare(flags | CLONE_NEWUSER)
        map_user(uid, gid)


def map_user(uid: int, gid: int) -> None:
    """Inside a fresh user namespace: be who one was before."""
    for name, line in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(line)


def furnish(kernel: Kernel, root: str, disk: int) -> None:
    """A root directory of its own, in memory: libraries to read, an empty /tmp to write in, and nothing else."""

    def mount(source: str, target: str, kind: bytes | None, flags: int, options: bytes | None = None) -> None:
        kernel.mount(source.encode(), target.encode(), kind, flags, options)

    os.umask(0o022)
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    mount("tmpfs", root, b"tmpfs", MS_NOSUID | MS_NODEV, b"size=%d,nr_inodes=4096,mode=755" % disk)
    for path in readable_paths():
        target = root + path
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.islink(path):
            os.symlink(os.readlink(path), target)
            continue
        if os.path.isdir(path):
            os.mkdir(target)
        else:
            open(target, "w").close()
        mount(path, target, None, MS_BIND | MS_REC)
        kept = os.statvfs(target).f_flag  # an unprivileged remount may only add to the flags of the original
        flags = (kept & 0xC0E) | (MS_RELATIME if kept & 4096 else 0)
        mount("none", target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | flags)
    os.mkdir(root + "/dev")
    for name in ("null", "zero", "random", "urandom"):
        open(f"{root}/dev/{name}", "w").close()
        mount(f"/dev/{name}", f"{root}/dev/{name}", None, MS_BIND)
    os.makedirs(root + "/tmp", exist_ok=True)  # the libraries may lie below it
    os.chmod(root + "/tmp", 0o1777)
    os.chdir(root)
    kernel.syscall(PIVOT_ROOT[MACHINE], b".", b".")
    kernel.umount2(b".", 2)  # MNT_DETACH: what was the root is gone
    os.chdir("/tmp")


def confine_files(kernel: Kernel, work: str) -> None:
    """Landlock, where there is no root of one's own: read the libraries, write in `work`, no TCP, no signals out."""
    import struct

    abi = kernel.syscall(444, 0, 0, 1)
    files = (1 << (13 if abi < 2 else 14 if abi < 3 else 15 if abi < 5 else 16)) - 1
    attributes = struct.pack("QQQ", files, 3, 3)[: 8 if abi < 4 else 16 if abi < 6 else 24]
    ruleset = kernel.syscall(444, attributes, len(attributes), 0)
    for path, access in (*((path, 0b1101) for path in readable_paths()), ("/dev/null", 0b110), (work, files)):
        descriptor = os.open(path, os.O_PATH)
        access &= files if os.path.isdir(path) else 0b111  # directories' rights make no sense for a file
        kernel.syscall(445, ruleset, 1, struct.pack("=Qi", access, descriptor), 0)
        os.close(descriptor)
    kernel.syscall(446, ruleset, 0)
    os.close(ruleset)


def filter_calls(kernel: Kernel) -> None:
    """Seccomp: the calls of FORBIDDEN fail with EPERM, whoever makes them from here on."""
    import struct

    def instruction(code: int, jt: int, jf: int, k: int) -> bytes:
        return struct.pack("HBBI", code, jt, jf, k)

    load, equal, at_least, has, give = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, kill, eperm, enosys = 0x7FFF0000, 0x80000000, 0x50001, 0x50026
    program = [
        instruction(load, 0, 0, 4), instruction(equal, 1, 0, AUDIT_ARCH[MACHINE]), instruction(give, 0, 0, kill),
        instruction(load, 0, 0, 0), instruction(at_least, 0, 1, 0x40000000), instruction(give, 0, 0, eperm),
        instruction(equal, 0, 1, CLONE3), instruction(give, 0, 0, enosys),  # its flags are out of a filter's sight
    ]  # fmt: skip
    for numbers in FORBIDDEN.values():
        program += [instruction(equal, 0, 1, numbers[MACHINE == "aarch64"]), instruction(give, 0, 0, eperm)]
    program += [
        instruction(equal, 0, 3, CLONE[MACHINE]), instruction(load, 0, 0, 16),
        instruction(has, 0, 1, 0x7E020000), instruction(give, 0, 0, eperm),  # new namespaces
        instruction(give, 0, 0, allow),
    ]  # fmt: skip
    code = kernel.ctypes.create_string_buffer(b"".join(program))
    pointer = kernel.ctypes.addressof(code)
    header = kernel.ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program), pointer))
    kernel.prctl(PR_SET_SECCOMP, 2, kernel.ctypes.addressof(header))


def become_nobody(work: str | None) -> None:
    """Root becomes nobody, if there is such a user here and it can still read the standard library; else OSError."""
    if os.geteuid() != 0:
        raise OSError("only root can")
    if work is not None:
        os.chown(work, NOBODY, NOBODY)
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    able = all(os.access(path, os.R_OK, effective_ids=True) for path in sys.path if os.path.isdir(path))
    os.seteuid(0)
    os.setegid(0)
    if not able:
        raise OSError("the standard library would be out of reach")
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def drop_capabilities(kernel: Kernel) -> None:
    """Gives up what root, or a namespace of one's own, may do; for good, since no new privileges can be gained."""
    import struct

    kernel.syscall(126 if MACHINE == "x86_64" else 91, struct.pack("II", 0x20080522, 0), bytes(24))


def count_processes(user: int) -> int:
    """How many processes and threads a user has already, all of which RLIMIT_NPROC counts."""
    total = 0
    for name in os.listdir("/proc") if LINUX else ():
        try:
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == user:
                total += os.stat(f"/proc/{name}/task").st_nlink - 2
        except OSError:
            continue  # it ended meanwhile
    return total


def limit(cpu: int, memory: int, file_bytes: int, processes: int, open_files: int) -> None:
    limits = {"CPU": cpu, "AS": memory, "FSIZE": file_bytes, "NPROC": processes, "NOFILE": open_files}
    limits |= {"CORE": 0, "MSGQUEUE": 0, "MEMLOCK": 0}
    for name, value in limits.items():
        number = getattr(resource, f"RLIMIT_{name}", None)
        if number is None:
            continue
        hard = resource.getrlimit(number)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(number, (value, value))
        except (OSError, ValueError):
            if LINUX:
                raise  # macOS refuses RLIMIT_AS, as `Sandbox.isolation` says


def attempt(wall: str, standing: list[str], step: Callable[[], object]) -> bool:
    """Runs a step that the kernel may refuse; `wall` stands where it did not."""
    try:
        step()
    except (OSError, KeyError, AttributeError):
        return False
    standing.append(wall)
    return True


def enter(kernel: Kernel | None, work: str, limits: list[int], standing: list[str], report: int, lifeline: int) -> None:
    """The child's way through the walls. All that is left to do then is to run the program in this process."""
    os.setsid()
    cpu, memory, file_bytes, processes, open_files = limits
    alone = "namespaces" in standing and os.geteuid() != 0  # a user namespace counts its processes by itself
    running = 0 if alone else count_processes(os.geteuid() or NOBODY)
    furnished = False
    if kernel is not None and "namespaces" in standing:
        furnished = attempt("root", standing, lambda: furnish(kernel, work, file_bytes))
    if not furnished:
        os.chdir(work)
    if kernel is not None:
        kernel.prctl(PR_SET_NO_NEW_PRIVS, 1)
        if not furnished:
            attempt("landlock", standing, lambda: confine_files(kernel, work))
    attempt("nobody", standing, lambda: become_nobody(None if furnished else work))
    if kernel is not None:
        if attempt("own-count", standing, lambda: kernel.unshare(CLONE_NEWUSER)):
            running = 0  # in the new namespace; its user, mapped to none, has the rights of before
        drop_capabilities(kernel)
        kernel.prctl(PR_SET_DUMPABLE, 0)
        kernel.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if select.select([lifeline], [], [], 0)[0]:
            os._exit(1)  # the watcher died before it could take this process along
    limit(cpu, memory, file_bytes, processes + running, open_files)
    if kernel is not None:
        attempt("seccomp", standing, lambda: filter_calls(kernel))
    os.write(report, (" ".join(standing) + "\n").encode())


def watch(pid: int, wall: float, report: int) -> None:
    """Outside: waits for the child for as long as it may run, ends all that it left, and reports how it ended."""

    def stop(number: int, frame: object) -> None:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)  # what it does from here on, nothing interrupts
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise TimeoutError

    began, how = time.monotonic(), "exit"
    try:
        signal.signal(signal.SIGALRM, stop)
        signal.signal(signal.SIGTERM, stop)
        signal.setitimer(signal.ITIMER_REAL, wall)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    except TimeoutError:
        how = "timeout"
    seconds = time.monotonic() - began
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except OSError:
            continue
    _, status, usage = os.wait4(pid, 0)
    end_orphans()
    code = os.waitstatus_to_exitcode(status)
    line = f"{how} {code} {seconds:.6f} {usage.ru_utime + usage.ru_stime:.6f} {usage.ru_maxrss}\n"
    os.write(report, line.encode())


def end_orphans() -> None:
    """Ends what escaped into other sessions: orphans come to this process, their subreaper, and may leave more."""
    while True:
        try:
            with open(f"/proc/self/task/{os.getpid()}/children") as file:
                left = [int(child) for child in file.read().split()]
        except OSError:
            return
        if not left:
            return
        for pid in left:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def main() -> bytes:
    parent, report, length = (int(value) for value in sys.argv[1:4])
    work, wall, *numbers = sys.argv[4:]
    kernel = Kernel() if LINUX else None
    standing: list[str] = []
    if kernel is not None:
        kernel.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        kernel.prctl(PR_SET_CHILD_SUBREAPER, 1)
        attempt("namespaces", standing, lambda: isolate(kernel))
    if os.getppid() != parent:
        os._exit(1)
    source = b""
    while len(source) < length:
        if not (piece := os.read(0, length - len(source))):
            os._exit(1)
        source += piece
    lifeline, held = os.pipe()
    if pid := os.fork():
        watch(pid, float(wall), report)
        os._exit(0)
    os.close(held)
    enter(kernel, work, [int(value) for value in numbers], standing, report, lifeline)
    os.closerange(3, 1024)
    return source


if __name__ == "__main__":
    program = main()
    sys.argv[:] = ["program.py"]
    sys.modules["__main__"] = module = types.ModuleType("__main__")
    sys.excepthook = lambda kind, error, trace: sys.__excepthook__(
        kind, error.with_traceback(trace.tb_next if trace else None), None
    )
    exec(compile(program, "program.py", "exec"), module.__dict__)
