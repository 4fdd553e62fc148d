"""Checks manifests against the schemas of Kubernetes and of the operators. A kind without a schema is an error."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate

VERSIONS = ("1.30", "1.34", "1.37")  # the oldest that the chart allows, a middle one, the newest known
_HERE = Path(__file__).parent


@cache
def custom(api_version: str, kind: str) -> Any:
    """Return the schema of an operator's kind; None if there is none here."""
    path = _HERE / f"{api_version.replace('/', '_')}_{kind}.json"
    return json.loads(path.read_text()) if path.is_file() else None


def check(manifest: dict[str, Any], version: str) -> None:
    """Raise if an API server of that version would refuse the manifest, or ignore one of its keys."""
    schema = custom(manifest["apiVersion"], manifest["kind"])
    if schema is not None:
        jsonschema.validate(manifest, schema)
    else:
        kubernetes_validate.validate(manifest, version, strict=True)  # raises for a kind without schema
