"""`python -m kefu PROCESS`: the processes of the platform, operators' tools."""

import importlib
import sys

from kefu.errors import KefuError, SettingsError

PROCESSES = {
    "gateway": ("kefu.gateway.app", "receive customers over HTTP (services environment)"),
    "worker": ("kefu.worker.server", "run the dialogue from Kafka (worker environment)"),
    "actions": ("actions.server", "run the actions that Rasa calls (services environment)"),
}
# Commands with words of their own: their `main` takes these and returns the exit code.
TOOLS = {
    "topics": (
        "kefu.tools.topics",
        "make the topics and rights that are missing, or go back to those of an older release",
    ),
    "settings": ("kefu.tools.settings_page", "print every environment variable, its default and bounds"),
    "probe": ("kefu.tools.probe", "ask a process whether it is ready; for health checks without a shell"),
    "model": ("kefu.tools.model_fetch", "fetch a trained model and check its digest"),
    "release": ("kefu.worker.release.command", "who serves, and whether a candidate may (worker environment)"),
    "partitions": ("kefu.tools.partitions", "add partitions to the topics, without interruption"),
    "idle-first": ("kefu.tools.idle_first", "have Kubernetes take idle pods first when there are to be fewer"),
    "backup": ("kefu.tools.backup.command", "save the topics into files, restore them into empty topics"),
    "tenants": ("kefu.tools.tenants", "who fills the inbox: its newest records, counted by tenant or customer"),
    "dlq": ("kefu.tools.dlq.command", "list, show, replay and drop dead letters (services environment)"),
}


def run(arguments: list) -> int:
    """Run a process until it ends; returns its exit code, 2 for a wrong word or setting."""
    tool = bool(arguments) and arguments[0] in TOOLS
    if not tool and (len(arguments) != 1 or arguments[0] not in PROCESSES):
        lines = [f"  {name:10} {what}" for name, (_, what) in {**PROCESSES, **TOOLS}.items()]
        print("usage: python -m kefu PROCESS\n" + "\n".join(lines), file=sys.stderr)
        return 2
    try:
        if tool:
            return importlib.import_module(TOOLS[arguments[0]][0]).main(arguments[1:])
        importlib.import_module(PROCESSES[arguments[0]][0]).main()
    except SettingsError as error:
        print(f"kefu {arguments[0]}: {error}", file=sys.stderr)
        return 2
    except KefuError as error:
        print(f"kefu {arguments[0]}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
