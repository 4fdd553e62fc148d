"""The settings of a process: `python -m kefu PROCESS --help` lists them, `--check` tries them.

In: the environment. Out: all variables that the process reads, or a sentence for each fault.
"""

import importlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, List

from kefu import tls
from kefu.errors import SettingsError
from kefu.reach import kafka_problem, redis_problem
from kefu.settings import ActionSettings, GatewaySettings, KafkaSettings, RedisSettings, WorkerSettings
from kefu.settings import declaring as declared

WITHIN_S = 3.0  # time limit of Kafka and Redis, asked in parallel; with Python's start a check takes less than 5 s
SECTIONS: Dict[str, List[Any]] = {
    "gateway": [GatewaySettings, KafkaSettings, RedisSettings],
    "worker": [WorkerSettings, KafkaSettings, RedisSettings],
    "actions": [ActionSettings],
}


def settings_of(process: str) -> List[str]:
    """Return one line for each variable that a process reads, section by section."""
    return [_line(each) for section in SECTIONS[process] for each in declared.settings_of(section).values()]


def _line(each: declared.Setting) -> str:
    needed = "Needed. " if each.default is None and each.only_if is None else ""
    file = f" Or {each.key}_FILE, which names a file." if each.secret else ""
    return f"  {each.key:28} {needed}{each.meaning}{file}".rstrip()


def problems(process: str) -> List[str]:
    """Return the faults of a process's settings and servers, each a sentence that names a variable. Blocks."""
    sections, faults = [], []
    for section in SECTIONS[process]:
        try:
            sections.append(section.from_env(os.environ))
            _look_here(sections[-1])
        except SettingsError as error:
            faults.append(str(error))
    with ThreadPoolExecutor() as pool:
        answers = pool.map(lambda section: _unreachable(section, process), sections)
    return faults + [answer for answer in answers if answer]


def _look_here(section: Any) -> None:
    """Raise SettingsError if a setting names a file that the process needs at its start and can't read."""
    if isinstance(section, WorkerSettings):
        importlib.import_module("kefu.worker.server").look_here(section)
    if getattr(section, "tls_directory", ""):
        tls.client_credentials(section.tls_directory).close()


def _unreachable(section: Any, process: str) -> str:
    if isinstance(section, KafkaSettings):
        return kafka_problem(section, WITHIN_S)
    if isinstance(section, RedisSettings):
        return redis_problem(section, process, WITHIN_S)
    return ""
