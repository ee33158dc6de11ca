"""How much memory there is, and how much a process takes of it."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def free_bytes(proc: Path = Path("/proc"), cgroups: Path = _CGROUPS) -> int:
    """Return how much memory is free to new processes: the machine's, or less where a container's limit says so.

    Where the system does not say what is free (macOS), it is all that the machine has.
    """
    free = _line(proc / "meminfo", "MemAvailable")
    if free is None:
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit, used, stat, cache in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
    ):
        try:
            # Pages of files that nobody uses are given back as soon as they are wanted.
            taken = int((cgroups / used).read_text()) - (_number(cgroups / stat, cache) or 0)
            free = min(free, int((cgroups / limit).read_text()) - taken)
        except (OSError, ValueError):  # another version of cgroups; or "max": no limit
            continue
    return max(0, free)


def kernel_kills(proc: Path = Path("/proc"), cgroups: Path = _CGROUPS) -> int:
    """Return how many processes the kernel has killed so far for want of memory; 0 where it does not say.

    Of the machine, and of this container within its own limit: where the number rises, there was such a kill.
    """
    counts = (
        _number(proc / "vmstat", "oom_kill"),
        _number(cgroups / "memory.events", "oom_kill"),
        _number(cgroups / "memory" / "memory.oom_control", "oom_kill"),
    )
    return sum(count or 0 for count in counts)


def own_peak_bytes(proc: Path = Path("/proc")) -> int:
    """Return the most memory that this process has taken, as far as known without the files that it maps.

    Those, the framework's libraries and the data, are in memory once for all workers.
    """
    status = proc / "self" / "status"
    peak, files = _line(status, "VmHWM"), _line(status, "RssFile")
    return _peak_bytes() if peak is None else max(0, peak - (files or 0))


def resident_bytes(proc: Path = Path("/proc")) -> int:
    """Return how much memory this process takes; its peak where the system tells no more."""
    try:
        pages = int((proc / "self" / "statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return _peak_bytes()
    return pages * os.sysconf("SC_PAGE_SIZE")


def _peak_bytes() -> int:
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage if sys.platform == "darwin" else usage * 1024


def _line(file: Path, name: str) -> int | None:
    """Return a value of a file of `name: number kB` lines, in bytes."""
    kilobytes = _number(file, f"{name}:")
    return None if kilobytes is None else kilobytes * 1024


def _number(file: Path, name: str) -> int | None:
    try:
        lines = file.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    found = (line.split() for line in lines)
    return next((int(words[1]) for words in found if len(words) > 1 and words[0] == name), None)
