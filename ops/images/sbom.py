"""`sbom.py REQUIREMENTS OUT [LEFT_OUT...]`: writes the list of an image's packages (CycloneDX 1.5).

In: locked requirements. Out: a component for each package, without those of LEFT_OUT.
It needs only Python's standard library, because it runs while the image is built. The same requirements give the same
bytes.
"""

import json
import re
import sys
from pathlib import Path

_LOCKED = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;\\]+)([^\\\n]*)((?:\\\n[^\n]*)*)", re.MULTILINE)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def components(requirements: str) -> list:
    """Return a component for each locked package, with the digests of its files."""
    parts = []
    for name, version, _, rest in _LOCKED.findall(requirements):
        normal = re.sub(r"[-_.]+", "-", name).lower()
        purl = f"pkg:pypi/{normal}@{version}"
        digests = [{"type": "distribution", "url": purl, "hashes": _hashes(rest)}]
        parts.append(
            {"type": "library", "bom-ref": purl, "name": normal, "version": version, "purl": purl,
             "externalReferences": digests}
        )  # fmt: skip
    return parts


def _hashes(rest: str) -> list:
    return [{"alg": "SHA-256", "content": digest} for digest in _HASH.findall(rest)]


def main(arguments: list) -> None:
    """Read the locked requirements, and write the list without the packages of LEFT_OUT."""
    source, target, left_out = Path(arguments[0]), Path(arguments[1]), arguments[2:]
    parts = components(source.read_text(encoding="utf-8"))
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "components": [each for each in parts if each["name"] not in left_out],
    }
    target.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
