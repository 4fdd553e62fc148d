"""`python ops/charts/readme.py [--check]`: writes the chart's README.md from its values.yaml.

A value's meaning is the comment above it that begins with `# --`. A value without such a comment stops the command,
which names the value.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parent / "kefu"


class Undocumented(Exception):
    """A value has no comment. The text is its path."""


def documented(text: str) -> Iterator[tuple[str, str, Any]]:
    """Return path, default and meaning of each value, in the file's order; raises Undocumented."""
    lines = text.splitlines()
    yield from _values(yaml.compose(text), lines, "", 0)


def _values(node: yaml.MappingNode, lines: list[str], prefix: str, after: int) -> Iterator[tuple[str, str, Any]]:
    for key, value in node.value:
        path = f"{prefix}{key.value}"
        comment = _comment(lines, key.start_mark.line)
        if comment:
            yield path, comment, yaml.safe_load(yaml.serialize(value))
        elif isinstance(value, yaml.MappingNode) and value.value and not value.flow_style:
            yield from _values(value, lines, f"{path}.", key.start_mark.line)
        else:
            raise Undocumented(path)


def _comment(lines: list[str], line: int) -> str:
    """Return the comment block that ends above a line and begins with two dashes; empty if there is none."""
    block: list[str] = []
    for above in reversed(lines[:line]):
        if not above.strip().startswith("#"):
            break
        block.insert(0, above.strip().lstrip("#").strip())
    return " ".join(block).removeprefix("-- ") if block and block[0].startswith("-- ") else ""


def readme(chart: Path = CHART) -> str:
    """Return the text of the chart's README.md: its head, and a table of all values."""
    head = (chart / "README.head.md").read_text()
    rows = ["| Value | Default | Meaning |", "|---|---|---|"]
    for path, meaning, default in documented((chart / "values.yaml").read_text()):
        rows.append(f"| `{path}` | `{json.dumps(default)}` | {meaning.replace('|', '/')} |")
    return head + "\n## Values\n\n" + "\n".join(rows) + "\n"


if __name__ == "__main__":
    page = CHART / "README.md"
    if "--check" in sys.argv:
        sys.exit(
            0 if page.read_text() == readme() else "README.md is not what values.yaml says: run ops/charts/readme.py"
        )
    page.write_text(readme())
