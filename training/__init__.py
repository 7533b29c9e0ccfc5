# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""The `tubevit` command and what it runs: prediction, export, the demo, a look at this machine."""

if __name__ != "tubevit.training":
    raise ImportError(
        f"This package is called `tubevit.training`, not `{__name__}`: write `from tubevit.training import ...` or run "
        "`tubevit --help` (after `pip install -e .` in the checkout)."
    )
