# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Commands of one step each: predict, convert, export, info, show, doctor, demo."""
