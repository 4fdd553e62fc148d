"""What a process needs: `python -m kefu PROCESS --help` lists its settings, `--check` tries them.

In: the environment. Out: the names of all variables that the process reads, or what is wrong with them, in sentences.
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

WITHIN_S = 3.0  # for Kafka and Redis, which are asked at once; with the start of Python it stays below 5
SECTIONS: Dict[str, List[Any]] = {
    "gateway": [GatewaySettings, KafkaSettings, RedisSettings],
    "worker": [WorkerSettings, KafkaSettings, RedisSettings],
    "actions": [ActionSettings],
}


def settings_of(process: str) -> List[str]:
    """Return a line for each variable that a process reads, in the order of their sections."""
    return [_line(each) for section in SECTIONS[process] for each in declared.settings_of(section).values()]


def _line(each: declared.Setting) -> str:
    needed = "Needed. " if each.default is None and each.only_if is None else ""
    file = f" Or {each.key}_FILE, which names a file." if each.secret else ""
    return f"  {each.key:28} {needed}{each.meaning}{file}".rstrip()


def problems(process: str) -> List[str]:
    """Return what is wrong with a process's settings and servers, each in a sentence that names a variable. Blocks."""
    sections, found = [], []
    for section in SECTIONS[process]:
        try:
            sections.append(section.from_env(os.environ))
            _look_here(sections[-1])
        except SettingsError as error:
            found.append(str(error))
    with ThreadPoolExecutor() as pool:
        answers = pool.map(lambda section: _unreachable(section, process), sections)
    return found + [answer for answer in answers if answer]


def _look_here(section: Any) -> None:
    """Raise SettingsError where a setting names a file that a process would miss at its start."""
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
