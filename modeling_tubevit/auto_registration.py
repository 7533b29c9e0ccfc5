# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Register model families with the Auto classes of Transformers without importing Transformers or a model early.

Importing Transformers' Auto classes and a model takes seconds, and `tubevit --help` needs neither. `register_on_import`
therefore registers at once only with the Auto classes that are already loaded. For the other Auto classes, an import hook
registers the families when the process imports them. The hook waits until the outermost import of a module of Transformers
or of this package ends, because before that a module that a model needs may be incomplete: `transformers.modeling_layers`
imports the Auto classes, and models import `transformers.modeling_layers`.

The hook also mends an import of Transformers by several threads at once. At the end of its import the package puts another module
into `sys.modules`; a thread that waited for the import holds the first module, in which `from transformers import X` finds nothing.
"""

import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


TRANSFORMERS = "transformers"
AUTO_PACKAGE = "transformers.models.auto"
# Module of `AUTO_PACKAGE` that defines an Auto class; all others are in modeling_auto.
AUTO_MODULES = {
    "AutoConfig": "configuration_auto",
    "AutoImageProcessor": "image_processing_auto",
    "AutoProcessor": "processing_auto",
    "AutoVideoProcessor": "video_processing_auto",
}


def register_on_import(families: Iterable[Mapping[str, str]]) -> None:
    """
    Register `families` with the Auto classes that are loaded, and with every other Auto class when it is imported.

    families: a dictionary for each model family, from the name of an Auto class to `module.Class` of this package. The key
        `AutoConfig` is required.
    """
    _hook.add(families)


class _RegistrationHook(MetaPathFinder):
    """Wraps the loaders of the modules of Transformers and of this package, to detect the end of an outermost import."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.pending: list[
            tuple[str, str, str]
        ] = []  # Auto class, `module.Class` of the class, `module.Class` of its config
        self.known: set[tuple[str, str, str]] = set()
        self.loading: set[str] = set()  # names of the modules that any thread is executing
        self.depth = threading.local()
        self.lock = threading.Lock()
        self.registering = threading.Lock()  # held by the thread that registers
        self.looks_again = False  # whether an import has ended since it began

    def add(self, families: Iterable[Mapping[str, str]]) -> None:
        new = [(auto, path, family["AutoConfig"]) for family in families for auto, path in family.items()]
        with self.lock:
            self.pending += [each for each in new if each not in self.known]  # a reload of the package adds nothing
            self.known.update(new)
            if self.pending and self not in sys.meta_path:
                sys.meta_path.insert(0, self)
        self.register_loaded()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not self.is_watched(fullname):
            return None
        for finder in sys.meta_path:
            if finder is not self and (spec := finder.find_spec(fullname, path, target)) is not None:
                if spec.loader is not None:
                    spec.loader = _ReportingLoader(spec.loader, self)
                return spec
        return None

    def is_watched(self, name: str) -> bool:
        """Whether the module belongs to Transformers or to this package without its training code, which no model imports."""
        is_ours = name.startswith(f"{self.package}.") and not name.startswith(f"{self.package}.training")
        return is_ours or name == TRANSFORMERS or name.startswith(f"{TRANSFORMERS}.")

    def execute(self, loader: Loader, module: ModuleType) -> None:
        name = module.__name__
        self.depth.value = getattr(self.depth, "value", 0) + 1  # 0 in a new thread
        self.loading.add(name)
        try:
            loader.exec_module(module)
        finally:
            self.loading.discard(name)
            self.depth.value -= 1
        if self.depth.value == 0:
            self.register_loaded()

    def register_loaded(self) -> None:
        """
        Register the pending classes whose Auto classes are loaded.

        While another thread executes a module of Transformers or of this package, nothing is registered: that thread calls this
        function when its import is complete. Waiting for it here, inside an import, could deadlock. One thread registers at a time;
        an import that ends meanwhile only asks that thread to look again.
        """
        self.looks_again = True
        while self.looks_again and not self.loading and self.registering.acquire(blocking=False):
            try:
                self.looks_again = False
                self._register_loaded()
            finally:
                self.registering.release()

    def _register_loaded(self) -> None:
        for each in list(self.pending):
            auto, path, config_path = each
            auto_module = f"{AUTO_PACKAGE}.{AUTO_MODULES.get(auto, 'modeling_auto')}"
            modules = {f"{self.package}.{name.rpartition('.')[0]}" for name in (path, config_path)}
            if auto_module not in sys.modules or self.loading & {auto_module, *modules}:
                continue
            auto_class = getattr(import_module(auto_module), auto)
            registered, config = self.load(path), self.load(config_path)
            with self.lock:
                if each in self.pending:
                    _register(auto_class, config, registered)
                    self.pending.remove(each)
                if not self.pending and self in sys.meta_path:
                    sys.meta_path.remove(self)

    def load(self, path: str) -> Any:
        module, _, name = path.rpartition(".")
        return getattr(import_module(f"{self.package}.{module}"), name)


class _ReportingLoader(Loader):
    """
    Executes a module by `hook.execute`, and the package `transformers`, which imports no Auto class, by the original loader. The
    module's `__loader__` and `__spec__.loader` are its original loader.
    """

    def __init__(self, loader: Loader, hook: _RegistrationHook) -> None:
        self.loader = loader
        self.hook = hook

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        if module.__name__ == TRANSFORMERS:
            self.loader.exec_module(module)
            _forward_names(module)
        else:
            self.hook.execute(self.loader, module)

    def __getattr__(self, name: str) -> Any:  # the other methods of the loader: get_source, get_code, is_package
        return getattr(self.loader, name)


def _forward_names(replaced: ModuleType) -> None:
    """Let a module that was replaced in `sys.modules` find the names of its replacement."""
    if (current := sys.modules[replaced.__name__]) is not replaced:
        replaced.__getattr__ = lambda name: getattr(current, name)  # type: ignore[method-assign]


def _register(auto_class: Any, config: Any, registered: Any) -> None:
    if auto_class.__name__ == "AutoConfig":
        auto_class.register(config.model_type, config)
    elif auto_class.__name__ == "AutoImageProcessor":
        auto_class.register(config, image_processor_classes={"torchvision": registered})
    else:
        auto_class.register(config, registered)


_hook = _RegistrationHook(__name__.rpartition(".")[0])
