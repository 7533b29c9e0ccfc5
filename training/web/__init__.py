# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""A classifier of videos as a static web page, which runs in the browser."""
