"""`python -m kefu PROCESS`: the processes of the platform, the making of Kafka's topics, operators' tools."""

import importlib
import sys

from kefu.errors import KefuError, SettingsError

PROCESSES = {
    "gateway": ("kefu.gateway.app", "receive customers over HTTP (services environment)"),
    "worker": ("kefu.worker.server", "run the dialogue from Kafka (worker environment)"),
    "actions": ("actions.server", "run the actions that Rasa calls (services environment)"),
    "topics": ("kefu.__main__", "make the topics that are missing, then end"),
}
# Commands with words of their own: their `main` takes these and returns the exit code.
TOOLS = {
    "dlq": ("kefu.dlq.command", "list, show, replay and drop dead letters (services environment)"),
}


def main() -> None:
    """Make the topics; as the other processes' `main`, found by name."""
    from kefu.kafka import create_topics
    from kefu.settings import KafkaSettings

    for topic, outcome in create_topics(KafkaSettings.from_env()).items():
        print(f"{topic}: {outcome}")


def run(arguments: list) -> int:
    """Run a process until it ends; returns its exit code, 2 for a wrong word or setting."""
    tool = bool(arguments) and arguments[0] in TOOLS
    if not tool and (len(arguments) != 1 or arguments[0] not in PROCESSES):
        lines = [f"  {name:8} {what}" for name, (_, what) in {**PROCESSES, **TOOLS}.items()]
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
