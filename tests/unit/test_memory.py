"""How much memory is free is what the machine says, or the container, whichever is less."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tuning.machine.memory import free_bytes, kernel_kills, own_peak_bytes, resident_bytes

MEMINFO = "MemTotal:       24000000 kB\nMemFree:  1 kB\nMemAvailable:   10000000 kB\n"
FREE = 10_240_000_000


def machine(root: Path, **files: str) -> tuple[Path, Path]:
    for name, text in {"proc/meminfo": MEMINFO, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root / "proc", root / "cgroup"


V1, V2 = "cgroup/memory/memory", "cgroup/memory"


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, FREE),
        ({f"{V2}.max": "max\n", f"{V2}.current": "5000\n"}, FREE),
        ({f"{V2}.max": "9000\n", f"{V2}.current": "5000\n"}, 4000),
        ({f"{V2}.max": "9000\n", f"{V2}.current": "5000\n", f"{V2}.stat": "anon 1\ninactive_file 500\n"}, 4500),
        ({f"{V2}.max": "9000\n", f"{V2}.current": "9500\n"}, 0),
        ({f"{V2}.max": "99999999999\n", f"{V2}.current": "5\n"}, FREE),
        ({f"{V1}.limit_in_bytes": "9000\n", f"{V1}.usage_in_bytes": "1\n"}, 8999),
        ({f"{V1}.limit_in_bytes": "9223372036854771712\n", f"{V1}.usage_in_bytes": "1\n"}, FREE),
    ],
)
def test_the_free_memory_is_the_machines_or_the_containers(tmp_path: Path, files: dict[str, str], free: int) -> None:
    assert free_bytes(*machine(tmp_path, **files)) == free


def test_where_the_system_does_not_say_what_is_free_it_is_all_there_is(tmp_path: Path) -> None:
    assert free_bytes(tmp_path, tmp_path) > 10**8


@pytest.mark.parametrize(
    ("files", "kills"),
    [
        ({}, 0),
        ({"proc/vmstat": "oom_kill_other 9\noom_kill 2\npgfault 7\n"}, 2),
        ({f"{V2}.events": "low 0\noom 4\noom_kill 3\n"}, 3),
        ({f"{V1}.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", "proc/vmstat": "oom_kill 1\n"}, 2),
    ],
)
def test_what_the_kernel_kills_for_want_of_memory_is_counted(tmp_path: Path, files: dict[str, str], kills: int) -> None:
    assert kernel_kills(*machine(tmp_path, **files)) == kills


def test_a_processs_peak_is_without_the_files_that_it_maps(tmp_path: Path) -> None:
    proc, _ = machine(tmp_path, **{"proc/self/status": "Name:\tpython\nVmHWM:\t  5000 kB\nRssFile:\t 2000 kB\n"})
    assert own_peak_bytes(proc) == 3000 * 1024
    assert own_peak_bytes(tmp_path) > 10**6
    before, taken = own_peak_bytes(), bytearray(50_000_000)
    taken[::1000] = b"x" * 50_000
    assert own_peak_bytes() >= before


def test_what_a_process_takes_now_is_counted_in_pages_and_its_peak_where_there_is_no_such_file(tmp_path: Path) -> None:
    proc, _ = machine(tmp_path, **{"proc/self/statm": "900 7 5 1 0 3 0\n"})
    assert resident_bytes(proc) == 7 * os.sysconf("SC_PAGE_SIZE")
    assert resident_bytes(tmp_path) > 10**6
    before, taken = resident_bytes(), bytearray(b"x" * 50_000_000)
    assert resident_bytes() > before + len(taken) // 2
