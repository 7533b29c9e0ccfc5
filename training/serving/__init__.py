# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""The HTTP service of `tubevit serve`: decoding in worker processes, batches over requests, limits, metrics."""
