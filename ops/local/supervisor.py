"""Starts processes, starts a process again when it dies, and stops all of them in the reverse order.

Each process has its own process group, so that a terminal's Ctrl-C reaches only the supervisor. Each process dies with
the supervisor, whatever ends that. The output of a process goes to a log file of limited size.
"""

import contextlib
import logging
import logging.handlers
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, List, Optional

from ops.local.servers import die_with_parent

FIRST_BACKOFF_S = 0.5  # wait before a dead process is started again; doubles each time
LAST_BACKOFF_S = 30.0  # the longest such wait
HEALTHY_AFTER_S = 60.0  # a process that has run for this long begins with FIRST_BACKOFF_S again
LOG_BYTES = 5 * 1024 * 1024  # limits a log file; beyond it a new file is begun
LOG_FILES = 2  # how many older log files of a process are kept


@dataclass(frozen=True)
class Service:
    """A process for the supervisor to run.

    Attributes:
        command: returns the command; called before each start, and may write configuration.
        missing: returns the reason why the process is not ready; empty if it is ready.
        environment: variables beside those of the supervisor.
        directory: the process's working directory.
        grace_s: the time between SIGTERM and SIGKILL.
    """

    name: str
    command: Callable[[], List[str]]
    missing: Callable[[], str]
    environment: Dict[str, str] = field(default_factory=dict)
    directory: Optional[Path] = None
    grace_s: float = 10.0


@dataclass
class _Running:
    """A started service. `again_at` is the time at which its dead process is started again."""

    service: Service
    process: "subprocess.Popen[bytes]"
    started: float
    backoff_s: float = FIRST_BACKOFF_S
    again_at: Optional[float] = None


class Supervisor:
    """Runs services until `stop`. Start and stop from one thread; `kill` from any.

    Args:
        logs: directory of the log files, `<service>.log`.
        tell: gets each line of progress, for the terminal.
    """

    def __init__(self, logs: Path, tell: Callable[[str], None] = print) -> None:
        self._logs = logs
        self._tell = tell
        self._lock = threading.RLock()
        self._running: Dict[str, _Running] = {}
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        logs.mkdir(parents=True, exist_ok=True)

    def start(self, service: Service) -> None:
        """Start a service; returns at once."""
        with self._lock:
            self._running[service.name] = _Running(service, self._spawn(service), time.monotonic())
        if not self._watcher.is_alive():
            self._watcher.start()

    def wait_ready(self, names: List[str], deadline_s: float) -> None:
        """Wait until these services are ready. After the deadline, raises RuntimeError with the reason of each."""
        end = time.monotonic() + deadline_s
        while True:
            missing = {name: self._running[name].service.missing() for name in names}
            lacking = [f"{name}: {what}" for name, what in missing.items() if what]
            if not lacking:
                return
            if time.monotonic() > end or self._stopping.is_set():
                raise RuntimeError(f"not ready: {'; '.join(lacking)}. Look into {self._logs}")
            time.sleep(0.1)

    def ready(self, name: str) -> bool:
        """Return whether a service runs and is ready now."""
        with self._lock:
            running = self._running.get(name)
        return running is not None and running.process.poll() is None and not running.service.missing()

    def process(self, name: str) -> "subprocess.Popen[bytes]":
        """Return the service's present process."""
        with self._lock:
            return self._running[name].process

    def kill(self, name: str, restart_after_s: float = 0.0) -> None:
        """End a service with SIGKILL, as a crash does. It is started again after `restart_after_s`."""
        with self._lock:
            running = self._running[name]
            running.again_at = time.monotonic() + restart_after_s
            running.process.kill()
            running.process.wait()

    def remove(self, name: str) -> None:
        """Stop a service with SIGTERM; it is not started again."""
        with self._lock:
            running = self._running.pop(name)
        self._end(running)

    def stop(self) -> None:
        """Stop all services in the reverse order of their start: by SIGTERM, and by SIGKILL after `grace_s`."""
        self._stopping.set()
        with self._lock:  # waits for the end of a start that is under way
            running = list(self._running.values())
        for each in reversed(running):
            self._end(each)
        self._ended.set()

    def _spawn(self, service: Service) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            service.command(),
            env={**os.environ, **service.environment},
            cwd=service.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        threading.Thread(target=self._log, args=(service.name, process), daemon=True).start()
        return process

    def _log(self, name: str, process: "subprocess.Popen[bytes]") -> None:
        path = self._logs / f"{name}.log"
        handler = logging.handlers.RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=LOG_FILES)
        handler.setFormatter(logging.Formatter("%(message)s"))
        assert process.stdout is not None
        for line in process.stdout:
            text = line.decode("utf-8", "replace").rstrip("\n")
            handler.emit(logging.LogRecord(name, logging.INFO, "", 0, text, None, None))
        handler.close()

    def _watch(self) -> None:
        while not self._stopping.wait(0.1):
            with self._lock:
                for running in self._running.values():
                    self._try_to_restart(running)
        # PDEATHSIG goes by thread: processes that this thread has started die with it, so it must outlive the stop.
        self._ended.wait()

    def _try_to_restart(self, running: _Running) -> None:
        """Start a dead service again. If that fails (disk full, no more processes), it is tried again later."""
        try:
            if not self._stopping.is_set():
                self._restart_if_due(running)
        except Exception as error:  # noqa: BLE001 - the watcher must go on, whatever one service does
            self._put_off(running)
            self._say(f"{running.service.name} can't be started: {error}")

    @staticmethod
    def _put_off(running: _Running) -> float:
        """Set the time of the next start, and return it."""
        running.again_at = again_at = time.monotonic() + running.backoff_s
        running.backoff_s = min(LAST_BACKOFF_S, running.backoff_s * 2)
        return again_at

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError):  # the terminal may be gone
            self._tell(line)

    def _restart_if_due(self, running: _Running) -> None:
        """Start a dead service again once its wait is over."""
        if running.process.poll() is None:
            if time.monotonic() - running.started > HEALTHY_AFTER_S:
                running.backoff_s = FIRST_BACKOFF_S
            return
        name = running.service.name
        again_at = running.again_at
        if again_at is None:
            again_at = self._put_off(running)
            code, wait = running.process.returncode, again_at - time.monotonic()
            self._say(f"{name} ended with {code}; starting it again in {wait:.1f} s ({self._logs / name}.log)")
        if time.monotonic() >= again_at:
            running.process = self._spawn(running.service)
            running.again_at = None
            running.started = time.monotonic()

    def _end(self, running: _Running) -> None:
        process = running.process
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            process.wait(running.service.grace_s)
        except subprocess.TimeoutExpired:
            self._say(f"{running.service.name} did not stop within {running.service.grace_s:.0f} s: killed")
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # ends processes that the service has started and left behind
        process.wait(5)
