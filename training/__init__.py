# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Training, evaluation, data preparation, benchmarks and experiments: everything that the `tubevit` command runs."""

if __name__ != "tubevit.training":
    raise ImportError(
        f"This package is called `tubevit.training`, not `{__name__}`: write `from tubevit.training import ...` or run "
        "`tubevit --help` (after `pip install -e .` in the checkout)."
    )
