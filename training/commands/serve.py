# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""`tubevit serve`: an HTTP service that classifies uploaded videos."""

import argparse

from ..command_line import whole_number
from ..environment import add_device_arguments, pick_device, prepare_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="checkpoint of a video classifier: a folder, or a name on the Hub")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0: all network interfaces (default: 127.0.0.1)",
    )
    parser.add_argument(
        "--port", type=whole_number(0), default=8000, help="port to listen on; 0: any free port (default: 8000)"
    )
    add_device_arguments(parser)
    views = parser.add_argument_group(
        "views", "Clips per video whose predictions are averaged; default: the checkpoint's."
    )
    views.add_argument("--temporal-views", type=whole_number(1), metavar="N", help="clips per video")
    views.add_argument("--spatial-views", type=whole_number(1), metavar="N", help="crops per clip")
    work = parser.add_argument_group("throughput")
    work.add_argument(
        "--max-batch-size",
        type=whole_number(1),
        default=8,
        metavar="N",
        help="largest number of videos in a batch (default: 8)",
    )
    work.add_argument(
        "--max-wait-ms",
        type=whole_number(0),
        default=5,
        metavar="MS",
        help="longest time that a video waits for a batch to fill, in milliseconds (default: 5)",
    )
    work.add_argument(
        "--workers",
        type=whole_number(1),
        metavar="N",
        help="number of processes that decode videos (default: one per core)",
    )
    limits = parser.add_argument_group(
        "limits", "A request that exceeds a limit is answered with a status from 400 to 499 and a reason."
    )
    limits.add_argument(
        "--max-requests",
        type=whole_number(1),
        default=64,
        metavar="N",
        help="largest number of requests at the same time (default: 64)",
    )
    limits.add_argument(
        "--max-megabytes",
        type=whole_number(1),
        default=100,
        metavar="N",
        help="largest size of a file, in MiB (default: 100)",
    )
    limits.add_argument(
        "--max-total-megabytes",
        type=whole_number(1),
        metavar="N",
        help="largest total size of the files that wait for decoding (default: 512, or --max-megabytes if larger)",
    )
    limits.add_argument(
        "--max-duration",
        type=whole_number(1),
        default=600,
        metavar="S",
        help="longest video, in seconds (default: 600)",
    )
    limits.add_argument(
        "--max-pixels",
        type=whole_number(1),
        default=4096 * 2304,
        metavar="N",
        help="largest frame, height times width in pixels (default: %(default)s)",
    )
    limits.add_argument(
        "--decode-seconds",
        type=whole_number(1),
        default=30,
        metavar="S",
        help="longest time to decode a file, in seconds (default: 30)",
    )
    limits.add_argument(
        "--upload-seconds",
        type=whole_number(1),
        default=60,
        metavar="S",
        help="longest time to receive a file, in seconds (default: 60)",
    )
    limits.add_argument(
        "--allow-url",
        action="append",
        default=[],
        metavar="HOST",
        help="fetch files from URLs of this host; repeat for more (default: none)",
    )


def run(args: argparse.Namespace) -> int:
    try:
        import uvicorn

        from ..serving.app import ServiceSettings, create_app
    except ModuleNotFoundError as error:
        raise ImportError(
            f"tubevit serve needs the package {error.name}: pip install 'tubevit[serve]'", name=error.name
        ) from error
    from tubevit.processing.cpu_cores import num_cores

    from ..logging_utils import quiet_libraries
    from ..models.loading import load_video_classifier
    from ..serving.decoding import Limits

    total = args.max_total_megabytes or max(512, args.max_megabytes)
    if total < args.max_megabytes:
        raise ValueError(
            f"--max-total-megabytes {total} is below --max-megabytes {args.max_megabytes}: one file could never arrive."
        )
    quiet_libraries()
    device = pick_device(args.device)
    views = {"num_temporal_views": args.temporal_views, "num_spatial_views": args.spatial_views}
    classifier = load_video_classifier(args.model, views, args.dtype)
    if classifier.media != "video":
        raise ValueError(f"{args.model} classifies images; tubevit serve takes a classifier of videos.")
    classifier.model.to(device)
    prepare_model(classifier.model, args.matmul_precision, args.compile)
    settings = ServiceSettings(
        limits=Limits(args.max_duration, args.max_pixels, args.decode_seconds),
        max_bytes=args.max_megabytes * 2**20,
        max_total_bytes=total * 2**20,
        max_requests=args.max_requests,
        upload_seconds=args.upload_seconds,
        url_hosts=tuple(host.lower() for host in args.allow_url),
        num_decoders=args.workers or num_cores(),
        max_batch_size=args.max_batch_size,
        max_wait=args.max_wait_ms / 1000,
    )
    uvicorn.run(create_app(classifier, args.model, settings), host=args.host, port=args.port, log_level="info")
    return 0
