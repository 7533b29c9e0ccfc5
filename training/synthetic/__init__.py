# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Synthetic videos and images. Imports only the ground modules of training/."""
