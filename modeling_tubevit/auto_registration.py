# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Register model families with the Auto classes of Transformers, without importing either before the process needs them.

Importing Transformers' Auto classes and a model takes seconds, and `tubevit --help` needs neither. `register_on_import`
therefore registers at once only with Auto classes that are loaded already. For the others an import hook waits until the
process imports them. It acts when the outermost import of a module of Transformers or of this package ends: before that, a
module that a model imports may be incomplete (`transformers.modeling_layers` imports the Auto classes, and models import it).
"""

import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


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
    Register `families` now with the Auto classes that are loaded, and later with those that are not.

    families: for each model family, name of an Auto class to `module.Class` of this package; `AutoConfig` is among them.
    """
    _hook.add(families)


class _RegistrationHook(MetaPathFinder):
    """Wraps the loaders of Transformers' and this package's modules, to know when an outermost import ends."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.pending: list[tuple[str, str, str]] = []  # Auto class, `module.Class`, and that of the family's config
        self.known: set[tuple[str, str, str]] = set()
        self.loading: set[str] = set()  # modules that any thread executes
        self.depth = threading.local()
        self.lock = threading.Lock()

    def add(self, families: Iterable[Mapping[str, str]]) -> None:
        new = [(auto, path, family["AutoConfig"]) for family in families for auto, path in family.items()]
        with self.lock:
            self.pending += [each for each in new if each not in self.known]  # a reload finds all of them known
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
        """The modules whose import may need, or be needed by, a module that is registered; commands are not."""
        return name.startswith(("transformers.", f"{self.package}.")) and not name.startswith(
            f"{self.package}.training"
        )

    def execute(self, loader: Loader, module: ModuleType) -> None:
        name = module.__name__
        self.depth.value = getattr(self.depth, "value", 0) + 1  # a thread begins at 0
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
        Register what is pending with the Auto classes that are loaded.

        A module that another thread is executing is left to that thread, which calls this function when it has done so:
        to wait for it here, inside an import, could deadlock.
        """
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
    """A loader that tells the hook when a module is executed. The module itself keeps its own loader."""

    def __init__(self, loader: Loader, hook: _RegistrationHook) -> None:
        self.loader = loader
        self.hook = hook

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.hook.execute(self.loader, module)

    def __getattr__(self, name: str) -> Any:  # get_source, get_code, is_package: whatever the loader has besides
        return getattr(self.loader, name)


def _register(auto_class: Any, config: Any, registered: Any) -> None:
    if auto_class.__name__ == "AutoConfig":
        auto_class.register(config.model_type, config)
    elif auto_class.__name__ == "AutoImageProcessor":
        auto_class.register(config, image_processor_classes={"torchvision": registered})
    else:
        auto_class.register(config, registered)


_hook = _RegistrationHook(__name__.rpartition(".")[0])
