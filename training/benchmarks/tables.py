# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Text tables of the reports of `tubevit bench`. Reports are dictionaries; this module needs no torch."""

from typing import Any

from ..tables import format_table


TOKENIZER_TITLES = {
    "float": "gather + product, float clip",
    "conv3d": "Conv3d, float clip in Conv3d's layout",
    "conv3d_view": "Conv3d, float clip in TubeViT's layout",
    "uint8": "gather + product, uint8 clip",
    "normalize_conv3d": "normalize uint8 clip, then Conv3d",
}
ROUTE_TITLES = {
    "library": "Transformers: load_video + VideoMAE's processor",
    "uint8": "TubeViT, uint8",
    "float": "TubeViT, normalized",
    "views": "TubeViT, all clips as views in one pass",
    "library_uniform": "Transformers, clips over the whole video",
    "uniform_views": "TubeViT, clips over the whole video in one pass",
}
PIPELINE_TITLES = {
    "tubevit": "TubeViT",
    "tubevit_uint8": "TubeViT, uint8 pixels",
    "videomae": "VideoMAE-B, first frames",
    "videomae_whole": "VideoMAE-B, frames of the whole video",
}
RUNTIME_TITLES = {
    "torch": "torch, float32",
    "float32": "onnxruntime, float32",
    "int8_dynamic": "onnxruntime, int8, dynamic",
    "int8_static": "onnxruntime, int8, static",
    "openvino": "onnxruntime with OpenVINO, float32",
}


def format_machine(machine: dict[str, Any], device: str) -> str:
    """The machine in one line, and a warning if other processes use it."""
    line = (
        f"{machine['gpu'] + ', ' if 'gpu' in machine else ''}{machine['cpu']}, {machine['cores']} cores "
        f"({machine['instructions']}); torch {machine['torch']}, threads: {machine['threads']}, "
        f"float32 matmul precision: {machine['float32_matmul_precision']}"
    )
    load = machine["load"]
    if load is not None and load > 0.5:
        line += (
            f"\nThe machine is busy (load {load}): ratios are more reliable than times, and minima more than medians."
        )
    return line


def format_forward(report: dict[str, Any]) -> str:
    title = f"Forward pass, {_run_title(report)}"
    notes = "".join(
        f"TubeViT computes at {100 * row['fraction_of_mm']:.0f} % of the {row['mm_gflops_per_second']:,.0f} GFLOP/s that torch.mm "
        f"reaches with its weights in {row['dtype']}; tokenization takes {100 * row['tokenization_fraction']:.1f} % of its "
        "time.\n"
        for row in report["models"]
        if "fraction_of_mm" in row
    )
    notes += "GFLOPs count a multiplication and an addition as two operations, in matrix products and convolutions.\n"
    return f"{title}\n{_model_table(report['models'])}\n{notes}{_model_notes(report['models'])}"


def format_training(report: dict[str, Any]) -> str:
    title = f"Training step (forward, loss, backward), {_run_title(report)}"
    notes = "Memory includes gradients and saved activations. The optimizer's step and state are excluded.\n"
    return f"{title}\n{_model_table(report['models'])}\n{notes}{_model_notes(report['models'])}"


def format_tokenizer(report: dict[str, Any]) -> str:
    rows = [
        [TOKENIZER_TITLES[name], *_times(values), values["difference"], *_ratios(values)]
        for name, values in report["variants"].items()
    ]
    columns = ["", "ms", "min ms", "difference", "ms / Conv3d", "min ms / Conv3d"]
    return (
        f"Clip to tokens, {report['dtype']}, batch {report['batch_size']}\n{format_table(columns, rows)}\n"
        "The float clip is compared with Conv3d in Conv3d's layout, the uint8 clip with normalization and Conv3d."
    )


def format_families(report: list[dict[str, Any]]) -> str:
    rows = [
        [row["title"], row["ours"], row["theirs"], row["unit"], *_ratios(row), row.get("ratio_of_cpu"), row["aim"]]
        for row in report
    ]
    columns = ["", "ours", "theirs", "", *(f"{each}ours / theirs" for each in ("", "min ms: ", "CPU ms: ")), "aim"]
    differences = [f"{row['difference']:.1e}" for row in report if "difference" in row]
    return (
        f"UniFormerV2 and ViViT at size B/16, float32\n{format_table(columns, rows)}\n"
        "Theirs: UniFormerV2 in the published formulation, whose logits differ by at most "
        f"{' and '.join(differences)}; a layer of Transformers' ViViT. Kept for the backward pass: the "
        "tensors that autograd saves, without the weights. Peak: memory beyond weights and clips, gradients included."
    )


def format_decoding(report: list[dict[str, Any]]) -> str:
    tables = []
    for video in report:
        columns = ["", "CPU ms", "CPU ms / Transformers", "wall ms", "wall ms / Transformers"]
        rows = [
            [title, worker["cpu_ms"], worker.get("ratio_of_cpu"), request["median_ms"], request.get("ratio")]
            for name, title in ROUTE_TITLES.items()
            for worker, request in [(video["worker"][name], video["request"][name])]
        ]
        stages = ", ".join(f"{name} {value:.1f}" for name, value in video["stages"].items())
        load = video["worker"]["load_video"]["cpu_ms"]
        tables.append(
            f"File to clip of {video['clip_fps']:g} frames per second, ms per clip: {video['title']}\n{format_table(columns, rows)}\n"
            f"Parts of CPU ms: TubeViT {stages}; Transformers' load_video {load:.1f}."
        )
    return "\n\n".join(tables) + (
        "\nCPU ms: CPU time on one thread, as in a DataLoader worker. Wall ms: elapsed time with all threads, as for one request."
    )


def format_pipelines(report: list[dict[str, Any]]) -> str:
    tables = []
    for video in report:
        rows = [
            [PIPELINE_TITLES[name], *_times(values), *_ratios(values), values.get("ratio_of_cpu")]
            for name, values in video["pipelines"].items()
        ]
        columns = ["", "ms", "min ms", *(f"{each}: TubeViT / row" for each in ("ms", "min ms", "CPU ms"))]
        table = format_table(columns, rows)
        tables.append(f"File to label: {video['title']}\n{table}")
    return "\n\n".join(tables)


def format_runtimes(report: dict[str, Any]) -> str:
    rows = [
        [
            RUNTIME_TITLES[name],
            *_times(values),
            *_ratios(values),
            values.get("ratio_of_cpu"),
            values.get("megabytes"),
            values.get("difference"),
            None if name == "torch" else f"{100 * values['same_label']:.0f} %",
        ]
        for name, values in report["rows"].items()
    ]
    columns = ["", "ms", "min ms", "ms / torch", "min ms / torch", "CPU ms / torch", "MB", "difference", "same label"]
    size = "x".join(str(report["shape"][axis]) for axis in (0, 2, 3))
    notes = "".join(f"\n{note}" for note in report["notes"])
    return (
        f"Raw pixels to logits on the CPU: {report['title']}, {size}, batch {report['batch_size']}\n{format_table(columns, rows)}\n"
        "Difference: the largest difference of logits; same label: the fraction of clips with the label of torch; both on synthetic clips."
        + notes
    )


def _model_table(rows: list[dict[str, Any]]) -> str:
    columns = {
        "": lambda row: row["title"],
        "dtype": lambda row: row["dtype"],
        "clip": lambda row: f"{row['num_frames']}x{row['image_size']}x{row['image_size']}",
        "tokens": lambda row: row["tokens"],
        "M weights": lambda row: row["parameters"] / 1e6,
        "GFLOP": lambda row: row["gflops"],
        "ms": lambda row: row["median_ms"],
        "min ms": lambda row: row["min_ms"],
        "clips/s": lambda row: row["clips_per_second"],
        "peak MiB": lambda row: row["peak_mib"],
    }
    if len({row["dtype"] for row in rows}) == 1:
        del columns["dtype"]  # the title says it
    for quotient, is_frozen in (("TubeViT / row", False), ("row / not frozen", True)):
        group = [row for row in rows if "ratio" in row and bool(row["num_frozen_layers"]) == is_frozen]
        for title, key in (
            (("ms", "ratio"), ("min ms", "ratio_of_minima"), ("MiB", "ratio_of_memory")) if group else ()
        ):
            columns[f"{title}: {quotient}"] = lambda row, key=key, group=group: row.get(key) if row in group else None
    if any("ratio_to_first_dtype" in row for row in rows):
        columns[f"ms / {rows[0]['dtype']}"] = lambda row: row.get("ratio_to_first_dtype")
    return format_table(list(columns), [[value(row) for value in columns.values()] for row in rows])


def _model_notes(rows: list[dict[str, Any]]) -> str:
    notes = ["Peak MiB: memory beyond weights and inputs."]
    if any("ratio_to_first_dtype" in row for row in rows):
        notes.append(
            f"The columns with TubeViT compare models in the same dtype, the last column the same model in {rows[0]['dtype']}."
        )
    if any(row["name"] == "vjepa2" for row in rows):
        notes.append("V-JEPA 2 has no base size; its default is large.")
    attentions = {row["title"]: row["attn"] for row in rows if row["attn"] != rows[0]["attn"]}
    notes += [f"{title} uses {attn} attention." for title, attn in attentions.items()]
    return " ".join(notes)


def _run_title(report: dict[str, Any]) -> str:
    return f"{', '.join(report['dtypes'])}, batch {report['batch_size']}, {report['models'][0]['attn']} attention"


def _times(values: dict[str, float]) -> list[float]:
    return [values["median_ms"], values["min_ms"]]


def _ratios(values: dict[str, float]) -> list[float | None]:
    return [values.get("ratio"), values.get("ratio_of_minima")]
