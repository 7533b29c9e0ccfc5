# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""What libraries print of their own accord and a user of a command has no use for, or is told in a line of ours."""

import warnings


def quiet_libraries() -> None:
    """
    For the rest of the process: no progress bars of reading and writing weights, which take a second (those of downloads
    stay), and not torch's warnings of many loader workers, on which `worker_processes` has a note.
    """
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging

    shows_downloads = not are_progress_bars_disabled()
    logging.disable_progress_bar()
    if shows_downloads:
        enable_progress_bars()
    warnings.filterwarnings("ignore", message="This DataLoader will create")
