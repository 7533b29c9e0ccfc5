# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""A training run: options, VideoTrainer, joint training, checkpoints, summary, model card, Hub."""
