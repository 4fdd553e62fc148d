"""The commands that README gives a newcomer, run as written."""

import json
import re
import stat
import subprocess

import pytest

from ops.local.run import write_tokens
from ops.local.servers import ROOT

README_SOURCES = ".local/run/tokens.env"


@pytest.fixture
def tokens(stack, tmp_path):
    """The file of tokens that `make run` writes."""
    path = tmp_path / "tokens.env"
    write_tokens(stack, path)
    return path


def test_token_file_of_make_run_is_readable_by_its_owner_only(tokens):
    assert stat.S_IMODE(tokens.stat().st_mode) == 0o600


def test_first_curl_command_of_the_readme_gets_an_answer(tokens):
    """The README's commands are run as written, with the token file of a running system."""
    session = re.search(r"^```\n(\$ \. .*?)^\{", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)[1]
    pasted = session.replace("$ ", "").replace(README_SOURCES, str(tokens))
    done = subprocess.run(["sh", "-euc", pasted], capture_output=True, text=True, timeout=60)
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["status"]) == (0, "answered") and "20260001" in answer["replies"][0]["text"]


def test_token_file_of_make_run_has_guest_and_desk_tokens(tokens):
    """The gateway accepts both."""
    calls = """
    . "$0"
    curl -sf -o /dev/null "$KEFU_URL/v1/replies" -H "Authorization: Bearer $GUEST"
    curl -sf -o /dev/null "$KEFU_URL/v1/desk/conversations" -H "Authorization: Bearer $DESK"
    """
    subprocess.run(["sh", "-euc", calls, str(tokens)], check=True, timeout=60)
