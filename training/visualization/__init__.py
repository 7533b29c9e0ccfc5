# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Figures of tubes, kernels, positions, attention and confusion matrices."""
