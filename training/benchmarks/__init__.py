# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Interleaved timing of model, tokenizer, decoder, data loader and pipeline."""
