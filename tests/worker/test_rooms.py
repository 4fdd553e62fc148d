"""The imports of the store and the release command: without Rasa they start a second sooner."""

import subprocess
import sys

import pytest

STORAGE = """
import pkgutil
import kefu.worker.storage as room
for module in pkgutil.iter_modules(room.__path__, room.__name__ + "."):
    __import__(module.name)
"""


@pytest.mark.parametrize("imports", [STORAGE, "import kefu.worker.release.command"], ids=["storage", "release command"])
def test_store_and_release_command_import_no_rasa(imports):
    code = f"{imports}\nimport sys\nprint(*sorted(name for name in sys.modules if name.split('.')[0] == 'rasa'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr
