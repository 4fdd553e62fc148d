"""Every link, setting, metric, command and module that a runbook names exists."""

import contextlib
import io
import re
import shlex

import pytest

from kefu.tools import partitions, tenants
from kefu.tools.backup import command as backup
from kefu.tools.dlq import options as dlq
from ops.local.servers import ROOT
from ops.release import __main__ as release

RUNBOOKS = sorted((ROOT / "ops" / "runbooks").glob("*.md"))
CODE = "\n".join(path.read_text() for folder in ("kefu", "actions") for path in (ROOT / folder).rglob("*.py"))
RULES = "\n".join(path.read_text() for path in (ROOT / "ops" / "charts").rglob("*.yaml"))


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_links_in_runbooks_have_existing_targets(path):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_settings_in_runbooks_are_declared(path):
    text = path.read_text()
    for name in set(re.findall(r"\bKEFU_[A-Z_]+[A-Z]\b", text)) - {"KEFU_ACL"}:
        assert name in CODE, name


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_metrics_in_runbooks_exist(path):
    for name in set(re.findall(r"\bkefu[_:][a-z0-9_]+", path.read_text())):
        assert name.removesuffix("_bucket") in CODE or name in RULES, name


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_kefu_commands_in_runbooks_exist(path):
    for word in set(re.findall(r"python -m kefu ([a-z-]+)", path.read_text())):
        assert f'"{word}": (' in CODE, word


PARSERS = {
    "dlq": dlq.parser,
    "backup": backup._parser,
    "partitions": partitions._parser,
    "tenants": tenants._parser,
    "ops.release": release._parser,
}


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_tools_accept_the_arguments_in_runbooks(path):
    text = re.sub(r"`([^`\n]*)\n *([^`\n]*)`", r"`\1 \2`", path.read_text())
    tools = "|".join(map(re.escape, PARSERS))
    for tool, words in re.findall(rf"python -m (?:kefu )?({tools}) ([^`|#\n]+)", text):
        if '"$@"' not in words:
            with understood():
                PARSERS[tool]().parse_args(shlex.split(re.sub(r"\$\([^)]*\)", "today", words)))


@contextlib.contextmanager
def understood():
    """Fail the test with the parser's message if it refuses the arguments."""
    message = io.StringIO()
    try:
        with contextlib.redirect_stderr(message):
            yield
    except SystemExit:
        pytest.fail(message.getvalue())


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_python_modules_in_runbooks_exist(path):
    for name in set(re.findall(r"python -m ((?:ops|kefu|actions)[a-z_.]*[a-z])", path.read_text())):
        place = ROOT / name.replace(".", "/")
        assert place.with_suffix(".py").exists() or (place / "__main__.py").exists(), name


def test_every_alert_has_a_runbook():
    for url in re.findall(r"runbook_url: (\S+)", RULES):
        assert (ROOT / url).exists(), url


def test_every_runbook_is_in_the_list():
    listed = (ROOT / "ops" / "runbooks" / "README.md").read_text()
    assert not [path.name for path in RUNBOOKS if path.name != "README.md" and path.name not in listed]
