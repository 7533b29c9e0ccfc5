# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""From annotations to batches: samples, clips, augmentation, checks, prepared copies."""
