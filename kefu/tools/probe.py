"""`python -m kefu probe URL`: asks a process whether it is ready. For images that have neither shell nor curl."""

import sys
import urllib.error
import urllib.request
from typing import List

TIMEOUT_S = 5.0  # longest wait for the process's answer; beyond it the process counts as not ready
MOST_BYTES = 2000  # limits how much of the answer's body is printed


def main(arguments: List[str]) -> int:
    """Return 0 if the status is 200, else 1 after printing the body or the error; 2 for wrong arguments."""
    if len(arguments) != 1 or not arguments[0].startswith("http://"):
        print("usage: python -m kefu probe http://127.0.0.1:PORT/readyz", file=sys.stderr)
        return 2
    try:
        with urllib.request.urlopen(arguments[0], timeout=TIMEOUT_S):  # noqa: S310 - http alone, see above
            return 0
    except urllib.error.HTTPError as error:
        print(error.read(MOST_BYTES).decode("utf-8", "replace"), file=sys.stderr)
    except OSError as error:
        print(error, file=sys.stderr)
    return 1
