# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Long and live video: sliding windows that share decoding and tube tokens, events, time lines."""
