"""Builds an image's file system without Docker, in a fresh folder.

FROM takes this machine's Python of the same version. COPY obeys the ignore file. RUN runs the command by sh, with the
image's paths replaced by those of the folder.
"""

import fnmatch
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from ops.local.setup import interpreter
from tests.chart.rendering import ROOT

PATHS = ("/opt", "/app", "/build", "/tmp")


@dataclass
class Stage:
    """A stage of a Dockerfile, as far as it is built. The folder `root` is its `/`."""

    root: Path
    workdir: str = "/"
    environment: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    user: str = ""
    command: list[str] = field(default_factory=list)

    def outside(self, text: str) -> str:
        """Return a text with the image's paths replaced by paths of this machine."""
        paths = "|".join(map(re.escape, PATHS))
        return re.sub(rf"(?<![\w.-])({paths})(?![\w-])", lambda path: f"{self.root}{path[1]}", text)


def instructions(path: Path) -> list[tuple[str, str]]:
    """Return keyword and argument of each instruction."""
    text = re.sub(r"(?m)^#.*\n", "", path.read_text())
    text = re.sub(r"\\\n\s*", "", text)
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


class Build:
    """Builds the last stage of a Dockerfile, or the stage `target`. `stages` has all stages that this needed.

    Further keywords are the build's arguments, as of `--build-arg`.
    """

    def __init__(self, path: Path, folder: Path, target: str = "", **arguments: str) -> None:
        self._path, self._folder = path, folder
        self._arguments = dict(arguments)
        self.stages: dict[str, Stage] = {}
        self.last = Stage(folder)
        for keyword, argument in instructions(path):
            if keyword == "FROM" and target and target in self.stages:
                break
            getattr(self, f"_{keyword.lower()}")(argument)

    def environment(self) -> dict[str, str]:
        """Return the environment of a container's process; on PATH, this machine's Python follows the image's own."""
        own = {name: self.last.outside(value) for name, value in self.last.environment.items()}
        return {**own, "PATH": f"{own.get('PATH', '')}:{self._python.parent}:/usr/bin:/bin", "LANG": "C.UTF-8"}

    def _arg(self, argument: str) -> None:
        name, _, value = argument.partition("=")
        self._arguments.setdefault(name, value.strip('"'))

    def _from(self, argument: str) -> None:
        image, _, name = argument.partition(" AS ")
        image = self._filled(image)
        root = self._folder / f"{self._path.stem}-{len(self.stages)}"
        if image in self.stages:
            before = self.stages[image]
            shutil.copytree(before.root, root, symlinks=True, copy_function=os.link)
            self.last = Stage(root, before.workdir, dict(before.environment), dict(before.labels), before.user,
                              list(before.command))  # fmt: skip
        else:
            version = re.search(r"python:(\d+\.\d+)", image)[1]
            root.joinpath("tmp").mkdir(parents=True)
            self._python = root.parent / f"python-{version}" / "python"
            self._python.parent.mkdir(exist_ok=True)
            if not self._python.exists():
                self._python.symlink_to(Path(interpreter(version)).resolve())
            self.last = Stage(root)
        self.stages[name or str(len(self.stages))] = self.last

    def _workdir(self, argument: str) -> None:
        self.last.workdir = argument
        Path(self.last.outside(argument)).mkdir(parents=True, exist_ok=True)

    def _copy(self, argument: str) -> None:
        *sources, target = argument.split()
        if sources[0].startswith("--from="):
            stage = self.stages[sources.pop(0).partition("=")[2]]
            paths = [Path(stage.outside(source)) for source in sources]
        else:
            paths = [self._allowed(source) for source in sources]
        for path in paths:
            self._put(path, target)

    def _put(self, source: Path, target: str) -> None:
        inside = f"{self.last.workdir}/{target}" if not target.startswith("/") else target
        place = Path(self.last.outside(inside))
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__") if source.is_relative_to(ROOT) else None
            shutil.copytree(source, place, symlinks=True, ignore=ignored, dirs_exist_ok=True, copy_function=_link)
            return
        if target.endswith("/"):
            place = place / source.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, place)

    def _allowed(self, source: str) -> Path:
        """Return a file of the repository; raise FileNotFoundError if the ignore file excludes it."""
        ignored = Path(f"{self._path}.dockerignore").read_text().splitlines()
        let_in = [line[1:] for line in ignored if line.startswith("!")]
        if not any(fnmatch.fnmatch(source, pattern) or source.startswith(f"{pattern}/") for pattern in let_in):
            raise FileNotFoundError(f"{source} is not in the build's context")
        return ROOT / source

    def _run(self, argument: str) -> None:
        # `python` by its name is this machine's. A path such as /opt/venv/bin/python is replaced by the stage's own.
        environment = {
            **os.environ,
            **self._arguments,
            "PATH": f"{self._python.parent}:{os.environ['PATH']}",
            "UV_SYSTEM_CERTS": "true",
        }
        environment.pop("VIRTUAL_ENV", None)
        subprocess.run(
            ["/bin/sh", "-ec", self.last.outside(argument)],
            cwd=self.last.outside(self.last.workdir), env=environment, check=True, capture_output=True, text=True,
        )  # fmt: skip

    def _env(self, argument: str) -> None:
        self.last.environment.update(re.findall(r"(\w+)=(\S+)", argument))

    def _label(self, argument: str) -> None:
        self.last.labels.update(re.findall(r'([\w.]+)="([^"]*)"', self._filled(argument)))

    def _filled(self, text: str) -> str:
        """Return a text with the build's arguments filled in."""
        return re.sub(r"\$\{(\w+)\}", lambda match: self._arguments[match[1]], text)

    def _user(self, argument: str) -> None:
        self.last.user = argument

    def _cmd(self, argument: str) -> None:
        self.last.command = json.loads(argument)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)
