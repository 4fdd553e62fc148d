"""Modules that are imported when they are first used, and not when something else is imported.

In: names of modules, and of the classes and functions that others import from them. Out: a process
that has stand-ins in their place. The first real use of any of them imports all of them, and puts
the real things where the stand-ins were, so that a process is either lean or as if nothing had been.
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
    """A class or a function of a module that has not been imported.

    Nothing can be an instance or a subclass of a class that does not exist yet, so to ask is not to
    use it. To call it, to derive from it or to read an attribute is.
    """

    def __init__(self, deferral: "Deferral", module: str, name: str) -> None:
        self.deferral = deferral
        self._module = module
        self._name = name

    def real(self) -> Any:
        """Return what this stands for. Blocks for seconds the first time. Raises ImportError."""
        return getattr(self.deferral.imported(self._module), self._name)

    def __repr__(self) -> str:
        return f"<stand-in for {self._module}.{self._name}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the real thing."""
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
    """A module that has a name and a place, and no content."""

    deferral: "Deferral"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what Python and its tools ask of any module
            raise AttributeError(f"module {self.__name__!r} is deferred and has no {name!r}")
        if not self.deferral.over and name in self.deferral.stood_for[self.__name__]:
            return StandIn(self.deferral, self.__name__, name)
        return getattr(self.deferral.imported(self.__name__), name)


class Deferral(MetaPathFinder, Loader):
    """Keeps modules from being imported, until `end` or the first use of one of them."""

    def __init__(self, modules: Mapping[str, Sequence[str]]) -> None:
        """Prepare; takes effect with `begin`.

        Args:
            modules: by name, with the classes and functions that a mere import of them by others
                must not load. Not for constants or exceptions: nothing can stand for those.
        """
        self.stood_for = modules
        self.over = False
        self._ending = threading.RLock()  # nothing is imported while it is held, so that no import waits for it
        self._replaced: Dict[str, DeferredModule] = {}

    def begin(self) -> None:
        """Defer what has not been imported yet. Modules that have been stay as they are."""
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: Any = None, target: Optional[ModuleType] = None) -> Optional[ModuleSpec]:
        """Return the module's own spec with this as its loader; None for modules of no concern."""
        if self.over or name not in self.stood_for:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None:
            spec.loader = self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module without content."""
        module = DeferredModule(spec.name)
        module.__dict__["deferral"] = self
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Run nothing: that is the point."""

    def imported(self, name: str) -> ModuleType:
        """Return the real module `name`, which ends the deferral of all. Raises ImportError."""
        if not self.over:
            logger.warning("a deferred module is used", extra={"fields": {"module": name}})
            self.end()
        return importlib.import_module(name)

    def end(self) -> None:
        """Import what has been deferred, and put it where its stand-ins are. Blocks for seconds.

        May be called from several threads: Python's own import locks do the waiting.

        Raises:
            ImportError: one of the modules is broken; it is tried again at its next use.
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
        """Take the empty modules away, once: what lies there later is the real one, which a thread may be importing."""
        with contextlib.suppress(ValueError):  # it never began
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
    """Give a package its submodules that were imported in the meantime: Python does so only once."""
    if isinstance(deferred, DeferredModule):
        for name, value in vars(deferred).items():
            if isinstance(value, ModuleType) and value.__name__ == f"{real.__name__}.{name}":
                vars(real).setdefault(name, value)
