"""`python -m ops.understanding.footprint MODEL`: measures a model's memory and start. Runs under Rasa's Python.

Prints JSON: the MB of a process that has loaded the model as the worker does, and its CPU seconds until then.
"""

import json
import logging
import sys
import time


def main() -> None:
    """Load the model as the worker does, and print its memory and CPU time."""
    logging.disable(logging.WARNING)
    from kefu.worker.start import lean

    lean.begin(sys.argv[1])
    from kefu.worker.engine.model import LoadedModel

    model = LoadedModel.from_path(sys.argv[1])
    with open("/proc/self/status", encoding="ascii") as status:
        resident = next(line.split()[1] for line in status if line.startswith("VmRSS"))
    intents = len(model.metadata.domain.intents)
    print(json.dumps({"intents": intents, "rss_mb": int(resident) / 1024, "cpu_s": time.process_time()}))


if __name__ == "__main__":
    main()
