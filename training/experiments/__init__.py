# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""The paper's tables, the comparison at equal FLOPs, linear baselines, and the page of results."""
