"""Measures CPU time and memory of the processes of a bench, and the share of the machine that other programs use."""

import os
import platform
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict

import psutil

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Sample:
    """The use of CPU, in s, and of resident memory, in MB, by the name of the process, up to a moment.

    `busy_s` is the CPU time that all programs of the machine have used.
    """

    at: float
    cpu_s: Dict[str, float]
    rss_mb: Dict[str, float]
    pids: Dict[str, int]
    busy_s: float

    def since(self, before: "Sample") -> Dict[str, Any]:
        """Return the use of CPU since an earlier sample, and the memory at both.

        Raises:
            RuntimeError: a process was restarted in between, so its CPU time is not known.
        """
        if before.pids != self.pids:
            raise RuntimeError("a process ended while it was measured: look into its log")
        used = {name: self.cpu_s[name] - before.cpu_s[name] for name in self.cpu_s}
        passed = self.at - before.at
        others = max(0.0, self.busy_s - before.busy_s - sum(used.values()))
        return {
            "wall_s": passed,
            "cpu_s": used,
            "rss_mb_before": before.rss_mb,
            "rss_mb_after": self.rss_mb,
            "others_cpu_share": others / (passed * (os.cpu_count() or 1)),
        }


def sample(pids: Dict[str, int]) -> Sample:
    """Return the CPU time and memory of these processes, their children included."""
    cpu_s, rss_mb = {}, {}
    for name, pid in pids.items():
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        cpu_s[name] = sum(_cpu_s(member) for member in family)
        rss_mb[name] = sum(member.memory_info().rss for member in family) / 2**20
    return Sample(time.monotonic(), cpu_s, rss_mb, dict(pids), _busy_s())


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _busy_s() -> float:
    times = psutil.cpu_times()
    return sum(times) - times.idle - times.iowait - times.guest - times.guest_nice


def metrics(url: str) -> Dict[str, float]:
    """Return the metrics on a process's `/metrics` page: name with labels, as written there, to value."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as page:  # noqa: S310 - a process of this bench
        lines = page.read().decode().splitlines()
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line and not line.startswith("#")
    }


def total(found: Dict[str, float], name: str) -> float:
    """Return the sum of a metric over all of its labels; 0 if it has no value yet."""
    return sum(value for key, value in found.items() if key == name or key.startswith(f"{name}{{"))


def machine() -> Dict[str, Any]:
    """Return a description of the machine and the commit on which the figures were measured."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain")),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown"
