"""The test stories as conversations with the whole system, and the changes that they make in the shop's database."""

import re
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

import yaml

ROOT = Path(__file__).resolve().parents[2]
STORIES = ROOT / "tests" / "dialogue" / "test_stories.yml"
EFFECTS = Path(__file__).with_name("conversation_effects.yml")
# The customer's text where a story says only `/inform`: the stories that do so ask for a name.
NAMES = {"zh": "李晓明", "en": "Ann Lee"}
_ANNOTATION = re.compile(r"\[([^\]]+)\]\([^)]+\)")
# The column that names a row's customer, by table. Rows of the other tables belong to orders.
OWNERS = {"customers": "id", "orders": "customer_id", "addresses": "customer_id", "password_resets": "customer_id"}
# Changes of the demo data before a story, without which the story's effect could not be seen.
_CHARGED_TWICE = "UPDATE orders SET payment_status = 'charged_twice' WHERE customer_id = :user"
BEGINNINGS = {
    "a Chinese customer unsubscribes": "UPDATE customers SET newsletter = 1 WHERE id = :user",
    "a Chinese customer who was charged twice says so twice": _CHARGED_TWICE,
    "an English customer was charged twice": _CHARGED_TWICE,
}
_ITEMS = "(SELECT group_concat(value ->> 'quantity' || ' ' || (value ->> 'sku')) FROM json_each(items)) AS items"
# Compared are, for each table: the key of a row, and the columns that a conversation may change.
TABLES: Dict[str, Tuple[Tuple[str, ...], Tuple[str, ...]]] = {
    "customers": (("id",), ("name", "newsletter", "deletion_on IS NOT NULL AS leaves")),
    "orders": (("number",), ("status", _ITEMS, "amount_minor", "refunded_minor", "address")),
    "refunds": (("number", "id"), ("status", "amount_minor", "reason")),
    "invoices": (("number",), ("status", "title")),
    "addresses": (("id",), ("address", "is_default")),
    "password_resets": (("id",), ()),
    "tickets": (("id",), ("kind", "text", "number")),
}
Rows = Dict[Tuple[str, ...], Tuple[Any, ...]]


class Turn(NamedTuple):
    """A customer's message (a text, or the payload of a button that was offered), and the actions that follow."""

    said: str
    is_payload: bool
    actions: List[str]


class Story(NamedTuple):
    """A conversation of `tests/dialogue/test_stories.yml`."""

    title: str
    turns: List[Turn]

    @property
    def is_guests(self) -> bool:
        """Whether the customer is a guest."""
        return "guest" in self.title

    @property
    def gets_a_person(self) -> bool:
        """Whether an action hands over that does not always do so. `rasa test` runs no actions and can't see it."""
        return "gets a person" in self.title


def stories() -> Iterator[Story]:
    """Yield the stories without events of the platform. Silence, for example, is tested in test_timers."""
    for story in yaml.safe_load(STORIES.read_text(encoding="utf-8"))["stories"]:
        turns: List[Turn] = []
        language = "zh" if "Chinese" in story["story"] else "en"
        for step in story["steps"]:
            if "user" in step:
                text = _ANNOTATION.sub(r"\1", step["user"])
                if text == "/inform":
                    text = NAMES[language]
                turns.append(Turn(text, text.startswith("/"), []))
            elif "action" in step:
                turns[-1].actions.append(step["action"])
        if all("user" in step or "intent" not in step for step in story["steps"]):
            yield Story(story["story"], turns)


def effects() -> Dict[str, List[str]]:
    """Return the changes in the shop by the story's title. Stories that aren't listed change nothing."""
    return yaml.safe_load(EFFECTS.read_text(encoding="utf-8"))


class ShopDatabase:
    """The demo shop's database file, reset before each conversation.

    Each conversation has a new customer, who gets everything of alice, and bob's orders: one that is shipped and one
    in processing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._first = sqlite3.connect(":memory:")
        with closing(self._open()) as live:
            live.backup(self._first)

    def begin_again(self, title: str = "") -> str:
        """Restore the first state, apply the story's BEGINNINGS, and give alice's data to a new customer: the id."""
        user = f"alice-{uuid.uuid4().hex[:8]}"
        with closing(self._open()) as live, live:
            self._first.backup(live)
            for table, column in OWNERS.items():
                live.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = 'alice'", (user,))
            live.execute("UPDATE orders SET customer_id = ? WHERE customer_id = 'bob'", (user,))
            if title in BEGINNINGS:
                live.execute(BEGINNINGS[title], {"user": user})
        return user

    def change(self, statement: str) -> None:
        """Change the database while a customer talks."""
        with closing(self._open()) as live, live:
            live.execute(statement)

    def rows(self) -> Dict[str, Rows]:
        """Return the columns that conversations may change, by table and key."""
        tables: Dict[str, Rows] = {}
        with closing(self._open()) as live:
            for table, (key, columns) in TABLES.items():
                rows = live.execute(f"SELECT {', '.join((*key, *columns))} FROM {table}")
                tables[table] = {tuple(map(str, row[: len(key)])): row[len(key) :] for row in rows}
        return tables

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=20)


def changes(before: Dict[str, Rows], after: Dict[str, Rows]) -> List[str]:
    """Return a line for each row that is new, gone or changed, without keys that the database numbers."""
    lines = []
    for table, (_, columns) in TABLES.items():
        names = [column.split()[-1] for column in columns]
        for key in sorted({*before[table], *after[table]}):
            old, new = before[table].get(key), after[table].get(key)
            if old == new:
                continue
            number = key[0] if table in ("orders", "refunds", "invoices") else ""
            if old and new:
                columns_changed = zip(names, old, new, strict=True)
                what = "; ".join(f"{name}: {was} -> {now}" for name, was, now in columns_changed if was != now)
            else:
                what = ", ".join(["gone" if new is None else "new", *map(str, new or old or ())])
            lines.append(" ".join(filter(None, (table, number, what))))
    return lines
