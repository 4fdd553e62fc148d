"""A deferred module is imported at its first use; afterwards it equals a module imported at once."""

import importlib
import sys
import threading
from types import ModuleType

import pytest

from kefu.worker.start.deferred import Deferral, DeferredModule, StandIn

HEAVY = """
LIMIT = 3
loads = globals().get("loads", 0) + 1
class Base:
    kind = "real"
    def name(self):
        return type(self).__name__
def double(number):
    return 2 * number
"""
USER = """
import heavy
from heavy import Base, double
"""


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Write modules where Python finds them; unload them after the test."""
    known = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(sources):
        for name, source in sources.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(source)
        importlib.invalidate_caches()

    yield write
    for name in set(sys.modules) - known:
        del sys.modules[name]


@pytest.fixture
def deferral(modules):
    """A deferral of `heavy`, with the module `user` that imports from it."""
    modules({"heavy.py": HEAVY, "user.py": USER})
    started = Deferral({"heavy": ("Base", "double")})
    started.begin()
    yield started
    if not started.over:
        sys.meta_path.remove(started)


def test_import_alone_does_not_run_a_deferred_module(deferral):
    user = importlib.import_module("user")
    assert type(user.heavy) is DeferredModule and type(user.Base) is StandIn
    assert user.heavy.__file__.endswith("heavy.py")
    assert not isinstance(3, user.Base) and not issubclass(int, user.Base)
    assert not deferral.over


def derive(user):
    class Mine(user.Base):
        pass

    return Mine().name() == "Mine"


@pytest.mark.parametrize(
    "use",
    [
        lambda user: user.double(21) == 42,
        lambda user: user.Base().name() == "Base",
        lambda user: user.Base.kind == "real",
        derive,
        lambda user: user.heavy.LIMIT == 3,
    ],
    ids=["call", "instance", "attribute", "subclass", "constant"],
)
def test_first_use_replaces_every_stand_in(deferral, use):
    user = importlib.import_module("user")
    assert not deferral.over
    assert use(user)
    heavy = sys.modules["heavy"]
    assert deferral.over and user.heavy is heavy
    assert (user.Base, user.double) == (heavy.Base, heavy.double)
    assert heavy.loads == 1


def test_kept_stand_in_works_after_the_deferral(deferral):
    user = importlib.import_module("user")
    aside = {"base": user.Base, "module": user.heavy}
    deferral.end()
    thing = user.Base()
    assert isinstance(thing, aside["base"]) and issubclass(user.Base, aside["base"])
    assert aside["base"].kind == aside["module"].Base.kind == "real"


def test_concurrent_first_uses_import_the_module_once(deferral):
    user = importlib.import_module("user")
    base, results = user.Base, []
    ready = threading.Barrier(8)

    def use():
        ready.wait()
        results.append((base.kind, user.heavy.LIMIT))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert results == [("real", 3)] * 8
    assert sys.modules["heavy"].loads == 1


def test_second_thread_does_not_disturb_the_first_import(modules, monkeypatch):
    """Two threads end the deferral at the same time."""
    gate, looked = ModuleType("gate"), threading.Event()
    gate.importing, gate.go_on = threading.Event(), threading.Event()
    monkeypatch.setitem(sys.modules, "gate", gate)
    modules({"heavy.py": f"import gate\ngate.importing.set()\ngate.go_on.wait(20)\n{HEAVY}"})

    class Names(dict):
        def __iter__(self):
            yield from super().__iter__()
            if threading.current_thread().name == "second":
                looked.set()
                gate.importing.wait(1)  # times out if the first thread waits for this one

    deferral = Deferral(Names(heavy=("Base", "double")))
    deferral.begin()
    base, kinds = importlib.import_module("heavy").Base, []
    second, first = (
        threading.Thread(target=lambda: kinds.append(base.kind), name=name) for name in ("second", "first")
    )
    second.start()
    assert looked.wait(20)
    first.start()
    assert gate.importing.wait(20)
    second.join(0.5)
    gate.go_on.set()
    for thread in (first, second):
        thread.join(20)
    assert kinds == ["real"] * 2 and sys.modules["heavy"].loads == 1


def test_broken_module_raises_at_each_use(modules):
    modules({"heavy.py": "raise ImportError('no such library')", "user.py": USER})
    deferral = Deferral({"heavy": ("Base", "double")})
    deferral.begin()
    user = importlib.import_module("user")
    for _ in range(2):
        with pytest.raises(ImportError, match="no such library"):
            user.double(1)


def test_package_keeps_submodules_imported_before_it(modules):
    package = {"__init__": "from pack.inner import thing", "inner": "thing = 1", "errors": "class Failed: pass"}
    modules({f"pack/{name}.py": source for name, source in package.items()})
    deferral = Deferral({"pack": (), "pack.inner": ("thing",)})
    deferral.begin()
    import pack.errors

    before = pack.errors.Failed
    assert not deferral.over
    deferral.end()
    assert sys.modules["pack"].errors.Failed is before
    assert sys.modules["pack"].thing == 1


def test_imported_module_is_not_deferred(modules):
    modules({"heavy.py": HEAVY})
    heavy = importlib.import_module("heavy")
    deferral = Deferral({"heavy": ("Base",)})
    deferral.begin()
    assert importlib.import_module("heavy") is heavy
    deferral.end()
    assert sys.modules["heavy"] is heavy and heavy.loads == 1


def test_one_deferral_ends_without_the_other(modules):
    user = "from heavy import Base\nfrom other import thing"
    modules({"heavy.py": HEAVY, "other.py": "def thing(): return 7", "user.py": user})
    deferrals = [Deferral({"heavy": ("Base",)}), Deferral({"other": ("thing",)})]
    for deferral in deferrals:
        deferral.begin()
    user = importlib.import_module("user")
    assert user.Base.kind == "real"
    assert [deferral.over for deferral in deferrals] == [True, False]
    assert user.thing() == 7
