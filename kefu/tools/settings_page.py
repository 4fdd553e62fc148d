"""`python -m kefu settings`: prints every environment variable, as the page `ops/settings.md`.

In: the declarations of `kefu.settings`. Out: Markdown.
"""

import sys
from typing import List

from kefu.settings import declared_settings
from kefu.settings.declaring import Setting, shown

HEAD = """\
# Settings

Printed by `python -m kefu settings > ops/settings.md` from `kefu/settings/`, where each variable is declared.

A process reads its environment once, when it starts; a missing or malformed variable stops the start and is named.
An empty variable counts as not set. A secret may come from a file instead, named by `<VARIABLE>_FILE`; a file outranks
the variable. What `make run` and the tools for tests and measurements read besides is said where they are described.
"""


def page() -> str:
    """Return the page ops/settings.md as Markdown: a table of variables for each section of settings."""
    return HEAD + "".join(_table(title, list(settings)) for title, settings in declared_settings().items())


def _table(title: str, settings: List[Setting]) -> str:
    rows = "".join(_row(each) for each in settings)
    return f"\n## {title}\n\n| Variable | Default | Allowed | Meaning |\n|---|---|---|---|\n{rows}"


def _row(declared: Setting) -> str:
    variable = f"`{declared.key}`" + (f" or `{declared.key}_FILE`" if declared.secret else "")
    unit = f" ({declared.unit})" if declared.unit else ""
    return f"| {variable} | {_default(declared)} | {declared.allowed}{unit} | {declared.meaning} |\n"


def _default(declared: Setting) -> str:
    if declared.default is None:
        return "must be set"
    number = declared.kind is not str
    return f"`{shown(declared.default) if number else declared.default}`" if declared.default != "" else "empty"


def main(words: List[str]) -> int:
    """Print the page ops/settings.md. The command takes no arguments."""
    if words:
        print("usage: python -m kefu settings", file=sys.stderr)
        return 2
    print(page(), end="")
    return 0
