"""Defers the import of modules until they are first used.

In: names of modules, and of the classes and functions that others import from them. Out: a process with stand-ins in
their place. The first real use of any of them imports all of them, and replaces the stand-ins by the real objects.
So a process either has none of the modules, or is the same as without deferral.
"""

import contextlib
import importlib
import logging
import sys
import threading
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

logger = logging.getLogger(__name__)


class StandIn:
    """Stands for a class or a function of a deferred module.

    `isinstance` and `issubclass` don't count as a use, because a class that does not exist yet has neither instances
    nor subclasses. A call, a derived class and the reading of an attribute are uses.
    """

    def __init__(self, deferral: "Deferral", module: str, name: str) -> None:
        self.deferral = deferral
        self._module = module
        self._name = name

    def real(self) -> Any:
        """Return the real object. Blocks for seconds the first time. Raises ImportError."""
        return getattr(self.deferral.imported(self._module), self._name)

    def __repr__(self) -> str:
        return f"<stand-in for {self._module}.{self._name}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the real object."""
        return self.real()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real(), name)

    def __mro_entries__(self, bases: Tuple[Any, ...]) -> Tuple[type, ...]:
        return (self.real(),)

    def __instancecheck__(self, instance: Any) -> bool:
        return self.deferral.over and isinstance(instance, self.real())

    def __subclasscheck__(self, subclass: type) -> bool:
        return self.deferral.over and issubclass(subclass, self.real())


class DeferredModule(ModuleType):
    """A module with a name and a spec, but without content."""

    deferral: "Deferral"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # Python and its tools read such names of any module
            raise AttributeError(f"module {self.__name__!r} is deferred and has no {name!r}")
        if not self.deferral.over and name in self.deferral.stood_for[self.__name__]:
            return StandIn(self.deferral, self.__name__, name)
        return getattr(self.deferral.imported(self.__name__), name)


class Deferral(MetaPathFinder, Loader):
    """Defers the import of modules until `end`, or until the first use of one of them."""

    def __init__(self, modules: Mapping[str, Sequence[str]]) -> None:
        """Create the deferral, which takes effect with `begin`.

        Args:
            modules: by name, the classes and functions that others import. Their import alone does not load the
                module. Constants and exceptions can't be listed, because a stand-in can't replace those.
        """
        self.stood_for = modules
        self.over = False
        self._ending = threading.RLock()  # no import happens while it is held, so it can't deadlock with import locks
        self._replaced: Dict[str, DeferredModule] = {}

    def begin(self) -> None:
        """Defer the modules that are not imported yet. Imported ones stay as they are."""
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: Any = None, target: Optional[ModuleType] = None) -> Optional[ModuleSpec]:
        """Return the module's own spec with this object as its loader; None for a module that isn't deferred."""
        if self.over or name not in self.stood_for:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None:
            spec.loader = self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module, without content."""
        module = DeferredModule(spec.name)
        module.__dict__["deferral"] = self
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Run nothing, because the module's code is deferred."""

    def imported(self, name: str) -> ModuleType:
        """Return the real module `name`. Ends the deferral of all modules. Raises ImportError."""
        if not self.over:
            logger.warning("a deferred module is used", extra={"fields": {"module": name}})
            self.end()
        return importlib.import_module(name)

    def end(self) -> None:
        """Import the deferred modules, and replace the stand-ins by the real objects. Blocks for seconds.

        May be called from several threads: they wait for each other by Python's own import locks.

        Raises:
            ImportError: one of the modules is broken; its next use tries again.
        """
        with self._ending:
            if not self.over:
                self._make_way()
        for name in self.stood_for:
            _hand_over_submodules(self._replaced.get(name), importlib.import_module(name))
        for module in list(sys.modules.values()):
            if isinstance(module, ModuleType):
                self._replace_stand_ins(module)

    def _make_way(self) -> None:
        """Remove the empty modules from `sys.modules`.

        Must run only once: later entries are the real modules, which another thread may be importing.
        """
        with contextlib.suppress(ValueError):  # `begin` was never called
            sys.meta_path.remove(self)
        for name in self.stood_for:
            module = sys.modules.get(name)
            if type(module) is DeferredModule:
                self._replaced[name] = module
                del sys.modules[name]
        self.over = True

    def _replace_stand_ins(self, module: ModuleType) -> None:
        for name, value in list(vars(module).items()):
            if type(value) is StandIn and value.deferral is self:
                setattr(module, name, value.real())
            elif type(value) is DeferredModule and value.deferral is self:
                setattr(module, name, importlib.import_module(value.__name__))


def _hand_over_submodules(deferred: Optional[ModuleType], real: ModuleType) -> None:
    """Set the submodules that were imported meanwhile as attributes of the real package. Python does so only once."""
    if isinstance(deferred, DeferredModule):
        for name, value in vars(deferred).items():
            if isinstance(value, ModuleType) and value.__name__ == f"{real.__name__}.{name}":
                vars(real).setdefault(name, value)
