"""`python -m kefu dlq list|show|replay|drop`: the command, its output and its exit codes."""

import argparse
import asyncio
import itertools
import json
import os
import sys
from contextlib import closing
from datetime import datetime, timezone
from typing import Any, Dict, Iterator, List, Tuple

import orjson

from kefu.errors import QueueUnavailable
from kefu.kafka import EventProducer
from kefu.privacy import mask, mask_all
from kefu.settings import KafkaSettings, operator
from kefu.tools.dlq.handling import CHUNK, Handler, Task, refused, task_for
from kefu.tools.dlq.letters import DROPPED, OPEN, REPLAYED, Letter, State
from kefu.tools.dlq.options import filtered, parser, problem, wanted
from kefu.tools.dlq.topic import Letters

DONE, PARTLY, WRONG, INTERRUPTED = 0, 1, 2, 130  # exit codes
_COLUMNS = "{position:>12}  {time:20}  {state:9}  {error_class:24}  {attempts:>3}  {origin:28}  {whose}"


def main(arguments: List[str]) -> int:
    """Run one command and return its exit code. Raises SettingsError for a wrong setting."""
    options = parser().parse_args(arguments)
    if options.verb in ("replay", "drop") and problem(options):
        print(f"kefu dlq {options.verb}: {problem(options)}", file=sys.stderr)
        return WRONG
    verb = {"list": _list, "show": _show, "replay": _handle, "drop": _handle}[options.verb]
    try:
        with closing(Letters(KafkaSettings.from_env())) as letters:
            return verb(letters, options)
    except QueueUnavailable as error:
        print(f"kefu dlq: {error}. Run the same command again: nothing is done twice.", file=sys.stderr)
        return PARTLY
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader of the pipe has closed it
        return DONE
    except KeyboardInterrupt:
        print("kefu dlq: interrupted. Run the same command again: nothing is done twice.", file=sys.stderr)
        return INTERRUPTED


def _list(letters: Letters, options: argparse.Namespace) -> int:
    matching = letters.find(wanted(options))
    count = 0
    for letter, state in itertools.islice(matching, options.limit or None):
        if not count and not options.json:
            print(_headline())
        print(json.dumps(summary(letter, state)) if options.json else _line(letter, state))
        count += 1
    more = " (there may be more)" if count and count == options.limit else ""
    print(f"{count} letter{'s' * (count != 1)}{more}", file=sys.stderr)
    return DONE


def _show(letters: Letters, options: argparse.Namespace) -> int:
    code = DONE
    for position, letter, state in letters.at(options.positions):
        if letter is None:
            print(f"{position}: no dead letter there", file=sys.stderr)
            code = PARTLY
            continue
        shown = {**summary(letter, state), "headers": _headers(letter), "value": mask_all(_value(letter))}
        print(json.dumps(shown, ensure_ascii=False, indent=None if options.json else 2))
    return code


def _handle(letters: Letters, options: argparse.Namespace) -> int:
    outcome = REPLAYED if options.verb == "replay" else DROPPED
    by = "" if options.dry_run else operator()
    if not (options.yes or options.dry_run):
        if not sys.stdin.isatty():
            print(f"kefu dlq {options.verb}: say --yes or --dry-run where nobody can be asked", file=sys.stderr)
            return WRONG
        if not _agreed(letters, options):
            return PARTLY
    return _Run(letters, options, outcome, by).run()


def _agreed(letters: Letters, options: argparse.Namespace) -> bool:
    """Ask the operator at the terminal whether to go on; return whether the answer is yes."""
    count = sum(1 for _ in _chosen(letters, options))
    print(f"{options.verb} {count} letter{'s' * (count != 1)}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _chosen(letters: Letters, options: argparse.Namespace) -> Iterator[Tuple[str, Any, State]]:
    """Yield position, letter and state of the letters that the arguments choose, by filters or by position."""
    if filtered(options):
        return ((str(letter.position), letter, state) for letter, state in letters.find(wanted(options)))
    return ((str(position), letter, state) for position, letter, state in letters.at(options.positions))


class _Run:
    """Handles the chosen letters in chunks, and prints the outcome of each letter."""

    def __init__(self, letters: Letters, options: argparse.Namespace, outcome: str, by: str) -> None:
        self._letters = letters
        self._options = options
        self._outcome = outcome
        self._by = by
        self._code = DONE

    def run(self) -> int:
        """Replay or drop the chosen letters; return the exit code."""
        if self._options.dry_run:
            for task in self._tasks():
                self._say(task, f"would be {self._outcome}")
            return self._code
        producer = EventProducer(KafkaSettings.from_env())
        try:
            handler = Handler(producer, self._by, mask(self._options.note))
            act = handler.replay if self._outcome == REPLAYED else handler.drop
            tasks = self._tasks()
            while chunk := list(itertools.islice(tasks, CHUNK)):
                asyncio.run(act(chunk))
                for task in chunk:
                    self._say(task, self._outcome)
        finally:
            producer.close()
        return self._code

    def _tasks(self) -> Iterator[Task]:
        """Yield a task for each chosen letter that may be handled; print the reason for each other letter."""
        acted = set()
        for position, letter, state in _chosen(self._letters, self._options):
            if letter is None:
                self._refuse(position, "no dead letter there")
            elif why := refused(letter, state, self._outcome, self._options.again):
                self._refuse(position, why)
            elif letter.id in acted:
                self._refuse(position, "is a copy of a letter named before")
            else:
                if self._options.positions:  # filters find each letter once, named positions may be copies
                    acted.add(letter.id)
                yield task_for(letter, state, self._outcome, self._options.again)

    def _refuse(self, position: str, why: str) -> None:
        self._code = PARTLY
        print(f"{position}: {why}", file=sys.stderr)

    def _say(self, task: Task, what: str) -> None:
        message_id = task.message_id if self._outcome == REPLAYED else None
        if self._options.json:
            line = {"position": str(task.letter.position), "letter": task.letter.id, "outcome": what}
            print(json.dumps({**line, "message_id": message_id} if message_id else line))
        else:
            print(f"{task.letter.position}: {what}" + (f" as message {message_id}" if message_id else ""))


def summary(letter: Letter, state: State) -> Dict[str, Any]:
    """Return a letter's data without the customer's text."""
    topic, partition, offset = letter.origin
    fields: Dict[str, Any] = {
        "position": str(letter.position),
        "letter": letter.id,
        "time": _time(letter.ts),
        "state": state.outcome,
        "error_class": letter.error_class,
        "attempts": letter.attempts,
        "origin": {"topic": topic, "partition": partition, "offset": offset},
        "conversation": letter.conversation,
        "message_id": letter.said.message_id if letter.said else None,
        "unreadable": letter.flaw or None,
        "trace": letter.header("traceparent") or None,
    }
    if state.outcome != OPEN:
        fields["handled"] = {"by": state.actor, "time": _time(state.ts), "attempt": state.attempt}
    return fields


def _line(letter: Letter, state: State) -> str:
    known = summary(letter, state)
    whose = f"{known['conversation'] or '?'}  {known['message_id'] or 'unreadable: ' + letter.flaw}"
    return _COLUMNS.format(**{**known, "origin": "/".join(letter.origin), "whose": whose})


def _headline() -> str:
    names = ("position", "time", "state", "error_class", "origin")
    return _COLUMNS.format(
        **{name: name.upper().replace("_", " ") for name in names}, attempts="TRY", whose="CONVERSATION  MESSAGE"
    )


def _headers(letter: Letter) -> Dict[str, str]:
    return {name: mask(value.decode("utf-8", "replace")) for name, value in letter.headers}


def _value(letter: Letter) -> Any:
    """Return the value parsed as JSON, or as text if it is not JSON."""
    try:
        return orjson.loads(letter.value)
    except orjson.JSONDecodeError:
        return letter.value.decode("utf-8", "replace")


def _time(ts: int) -> str:
    return datetime.fromtimestamp(ts / 1000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
