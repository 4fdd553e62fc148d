"""Writes the schemas beside this file from the CRDs of the operators' Go modules: `extract.py CRD.yaml...`.

The schemas are stored here because no package has them. They are small without descriptions. An API server silently
drops keys that a CRD doesn't name; these schemas refuse them, so that a misspelt key fails the tests.
"""

import json
import sys
from pathlib import Path

import yaml


def strict(schema: object) -> object:
    """Return the schema without descriptions, with unknown keys refused."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if key != "description" or not isinstance(value, str)}
    found = {key: strict(value) for key, value in kept.items() if not key.startswith("x-kubernetes-list")}
    if found.pop("x-kubernetes-int-or-string", False):
        found["type"] = ["integer", "string"]
    if isinstance(found.get("pattern"), str):  # Go allows the flag anywhere
        found["pattern"] = found["pattern"].replace("^(?i)", "(?i)^")
    closed = isinstance(found.get("properties"), dict) and found.get("type") == "object"
    if closed and not found.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    return found


def extract(path: Path) -> None:
    """Write one file for each served version of a CRD."""
    crd = yaml.safe_load(path.read_text())["spec"]
    kind, group = crd["names"]["kind"], crd["group"]
    stored = [version for version in crd["versions"] if version["storage"]]
    for version in stored:
        schema = strict(version["schema"]["openAPIV3Schema"])
        schema["properties"].pop("status", None)
        schema["properties"]["metadata"] = {"type": "object"}
        target = Path(__file__).parent / f"{group}_{version['name']}_{kind}.json"
        target.write_text(json.dumps(schema, sort_keys=True, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    for each in sys.argv[1:]:
        extract(Path(each))
