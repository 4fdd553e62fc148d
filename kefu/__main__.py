"""`python -m kefu NAME`: starts a process of the platform, or runs an operators' tool."""

import difflib
import importlib
import importlib.util
import sys
from typing import List

from kefu.errors import KefuError, SettingsError

# Name to module, environment and purpose.
PROCESSES = {
    "gateway": ("kefu.gateway.app", "services", "receive customers over HTTP"),
    "worker": ("kefu.worker.server", "worker", "run the dialogue from Kafka"),
    "actions": ("actions.server", "services", "run the actions that Rasa calls"),
}
# Commands that take arguments: their `main` gets the arguments and returns the exit code.
TOOLS = {
    "topics": (
        "kefu.tools.topics",
        "services",
        "make the topics and rights that are missing, or go back to those of an older release",
    ),
    "settings": ("kefu.tools.settings_page", "any", "print every environment variable, its default and bounds"),
    "probe": ("kefu.tools.probe", "any", "ask a process whether it is ready; for health checks without a shell"),
    "model": ("kefu.tools.model_fetch", "any", "fetch a trained model and check its digest"),
    "release": ("kefu.worker.release.command", "worker", "who serves, and whether a candidate may"),
    "partitions": ("kefu.tools.partitions", "services", "add partitions to the topics, without interruption"),
    "idle-first": ("kefu.tools.idle_first", "any", "have Kubernetes take idle pods first when there are to be fewer"),
    "backup": ("kefu.tools.backup.command", "services", "save the topics into files, restore them into empty topics"),
    "tenants": ("kefu.tools.tenants", "services", "who fills the inbox: its newest records, counted by tenant or user"),
    "dlq": ("kefu.tools.dlq.command", "services", "list, show, replay and drop dead letters"),
}
COMMANDS = {**PROCESSES, **TOOLS}
# The package that identifies an environment: the other environment and a bare Python lack it.
MARKS = {"services": "kafka", "worker": "rasa"}
DONE, FAILED, WRONG = 0, 1, 2  # exit codes


def run(arguments: List[str]) -> int:
    """Run a process or a tool until it ends; returns its exit code, 2 for a wrong argument, setting or interpreter."""
    name, words = (arguments[0], arguments[1:]) if arguments else ("", [])
    if name in ("-h", "--help"):
        print(usage())
        return DONE
    if name not in COMMANDS:
        return _fail(f"kefu: {_unknown(name)}\n\n{usage()}" if name else usage())
    if name in PROCESSES and words not in ([], ["--help"], ["-h"], ["--check"]):
        return _fail(f"kefu {name}: takes only --help or --check, not {' '.join(words)}")
    module, environment, _ = COMMANDS[name]
    if environment in MARKS and importlib.util.find_spec(MARKS[environment]) is None:
        return _fail(f"kefu {name}: {_elsewhere(environment)}")
    try:
        if name in TOOLS:
            return importlib.import_module(module).main(words)
        if words:
            return _check(name) if words == ["--check"] else _help(name)
        importlib.import_module(module).main()
    except SettingsError as error:
        return _fail(f"kefu {name}: {error}")
    except KefuError as error:
        return _fail(f"kefu {name}: {error}", FAILED)
    return DONE


def usage() -> str:
    """Return the usage: all processes and tools, each with its purpose."""
    lines = [f"  {name:10} {what} ({where} environment)" for name, (_, where, what) in COMMANDS.items()]
    return "\n".join(["usage: python -m kefu PROCESS [--help | --check], python -m kefu TOOL --help", *lines])


def _unknown(name: str) -> str:
    nearest = difflib.get_close_matches(name, COMMANDS, 1)
    return f"there is no process {name!r}" + (f"; did you mean {nearest[0]}?" if nearest else "")


def _elsewhere(environment: str) -> str:
    return (
        f"{sys.executable} lacks the package {MARKS[environment]}, so it isn't the {environment} environment's Python: "
        f"take .local/{environment}/bin/python, or the {environment} image's"
    )


def _help(name: str) -> int:
    check = importlib.import_module("kefu.check")  # imported late: it loads Kafka's client
    _, environment, what = PROCESSES[name]
    print(f"python -m kefu {name}: {what} ({environment} environment). --check tries its settings and servers.\n")
    print("\n".join(["Environment variables, described in ops/settings.md:", *check.settings_of(name)]))
    return DONE


def _check(name: str) -> int:
    problems = importlib.import_module("kefu.check").problems(name)
    if problems:
        return _fail("\n".join(f"kefu {name}: {problem}" for problem in problems), FAILED)
    print(f"kefu {name}: its settings are right, and its servers answer")
    return DONE


def _fail(why: str, code: int = WRONG) -> int:
    print(why, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
