# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Data sets: annotations, clips, augmentation, batches, checks and prepared copies."""
