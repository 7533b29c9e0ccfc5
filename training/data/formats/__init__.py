# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Annotation formats: one module per format, and their registry."""
