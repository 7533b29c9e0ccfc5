# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Every video scored once per view: predictions, metrics, result files."""
