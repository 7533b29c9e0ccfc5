# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Silence library output that is of no use in a command."""

import warnings


def quiet_libraries() -> None:
    """
    Turn off two kinds of output for the rest of the process: Transformers' progress bars of loading and saving weights
    (downloads keep theirs), and torch's warning about many DataLoader workers (`worker_processes` prints a message instead).
    """
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging

    shows_downloads = not are_progress_bars_disabled()
    logging.disable_progress_bar()
    if shows_downloads:
        enable_progress_bars()
    warnings.filterwarnings("ignore", message="This DataLoader will create")
