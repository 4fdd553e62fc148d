"""`make shell`: runs `rasa shell` on the trained model, with the demo shop and an action server."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from ops.local.servers import LOCAL, ROOT, services_python
from ops.local.stack import Stack, free_ports


def main() -> int:
    """Run `rasa shell` until it ends; returns its exit code."""
    stack = Stack(LOCAL / "shell", free_ports())
    with tempfile.TemporaryDirectory() as directory:
        endpoints = Path(directory) / "endpoints.yml"
        own = (ROOT / "endpoints.yml").read_text()
        endpoints.write_text(re.sub(r"http://\S+/webhook", f"{stack.url('actions')}/webhook", own))
        try:
            stack.start_actions()
            rasa = services_python("worker").with_name("rasa")
            return subprocess.call([str(rasa), "shell", "--endpoints", str(endpoints)], cwd=ROOT)
        except KeyboardInterrupt:
            return 0
        finally:
            stack.stop()


if __name__ == "__main__":
    sys.exit(main())
