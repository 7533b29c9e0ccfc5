# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""What is trained or scored: model families, building, loading, parameter groups, sizes."""
