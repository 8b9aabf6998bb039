"""What the kernel knows: CPU time and memory of a tree of processes, how busy each core is, and what machine this is."""

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """The process ids of ``root`` and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
            children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    waiting = [root]
    while waiting:
        process = waiting.pop()
        found.append(process)
        waiting += children.get(process, [])
    return found


def cpu_seconds(root: int) -> float:
    """User and system time of the tree so far, by the processes' CPU clocks.

    Those count nanoseconds and all threads, where utime and stime in ``/proc`` count ticks of 10 ms. The id of a process's
    clock is made as glibc's ``clock_getcpuclockid`` makes it.
    """
    total = 0.0
    for process in tree(root):
        try:
            total += time.clock_gettime(~process << 3 | 2)
        except OSError:
            continue  # it ended while we looked
    return total


def rss_bytes(root: int) -> int:
    """Resident memory of the tree; pages that its processes share are counted in each of them."""
    pages = 0
    for process in tree(root):
        try:
            pages += int(Path(f"/proc/{process}/statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return pages * os.sysconf("SC_PAGE_SIZE")


def busy_seconds(core: int) -> float:
    """Seconds that a core has spent on anything, and that the hypervisor has kept from it, since boot (10 ms ticks)."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            user, nice, system, _idle, _iowait, irq, softirq, steal = (
                int(word) for word in line.split()[1:9]
            )
            return (user + nice + system + irq + softirq + steal) / _TICK
    raise LookupError(f"no core {core}")


@dataclass(frozen=True, slots=True)
class Machine:
    """The facts that a figure depends on; nothing that names the machine."""

    cpus: int
    cpu: str
    kernel: str


def machine() -> Machine:
    """This machine's facts."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return Machine(cpus=os.cpu_count() or 1, cpu=model, kernel=platform.release().partition("-")[0])
