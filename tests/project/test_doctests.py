"""Every example in a docstring runs and prints the documented result."""

import doctest
import importlib
import pkgutil

import pytest

import tubevit


MODULES = ["tubevit", *(module.name for module in pkgutil.walk_packages(tubevit.__path__, "tubevit."))]
PACKAGES = ["tubevit.processing", "tubevit.training"]  # their folders lie beside, not inside, the first one's
for package in PACKAGES:
    MODULES += [
        module.name for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}.")
    ]


@pytest.mark.parametrize("name", sorted(set(MODULES)))
def test_docstring_examples(name):
    module = importlib.import_module(name)
    results = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert results.failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    tests = [test for name in MODULES for test in finder.find(importlib.import_module(name))]
    assert sum(len(test.examples) for test in tests) > 5
