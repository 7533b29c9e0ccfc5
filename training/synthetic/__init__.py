# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Drawn videos in which motion decides the class. Imports nothing of the other sub-packages."""
