# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""The FastAPI application of `tubevit serve`: `POST /classify`, `/healthz`, `/metrics`, and the OpenAPI page `/docs`."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx
import numpy as np
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ..evaluation.metrics import LogitsNotFinite, best_labels, scores_of
from ..models.clip_processors import read_views
from .batching import Batcher
from .decoding import ClipDecoder, Limits, UnreadableFile


SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)  # bounds of the histograms
RECENT = 1_000  # number of the last requests whose latency quantiles are reported
STAGES = ("receive", "decode", "model")
HEADER_BYTES = 2**16  # allowed in a body in addition to the file: headers of a form, or {"url": ...}
BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": {"type": "string", "format": "binary"}},
            }
        },
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        "application/json": {
            "schema": {"type": "object", "required": ["url"], "properties": {"url": {"type": "string"}}}
        },
    },
}
ERRORS = {
    400: "the body is empty or malformed",
    403: "URLs of this host are not allowed",
    408: "the body did not arrive in time",
    413: "the body is too large",
    422: "the file cannot be read, or exceeds a limit, or a parameter is wrong; `detail` says why",
    429: "too many requests are in progress, or too many bytes wait to be decoded",
}


@dataclass
class ServiceSettings:
    """
    limits: limits of a file, see `Limits`. max_bytes: size of a body, or of the file at a URL. max_total_bytes: total size of the files that
    wait to be decoded. max_requests: requests in progress; more requests or bytes are answered with status 429. upload_seconds: time to
    receive a body, or to fetch a URL. url_hosts: hosts from which files are fetched; none by default. num_decoders: number of processes
    that decode. max_batch_size, max_wait: see `Batcher`.
    """

    limits: Limits = field(default_factory=Limits)
    max_bytes: int = 100 * 2**20
    max_total_bytes: int = 512 * 2**20
    max_requests: int = 64
    upload_seconds: float = 60.0
    url_hosts: tuple[str, ...] = ()
    num_decoders: int = 2
    max_batch_size: int = 8
    max_wait: float = 0.005

    def __post_init__(self) -> None:
        if self.max_total_bytes < self.max_bytes:
            raise ValueError(
                f"The files of all requests may have {self.max_total_bytes:,} bytes, less than one file ({self.max_bytes:,})."
            )


class Uploads:
    """
    The number of bytes of the files in memory. Each request adds its own with `Upload`.

    settings: limits the bytes of one file (`max_bytes`) and of all (`max_total_bytes`).
    """

    def __init__(self, settings: ServiceSettings):
        self.settings, self.num_bytes = settings, 0


class Upload:
    """Counts the bytes of the file of one request until the end of the `with` block. `add` raises `HTTPException` 413 or 429."""

    def __init__(self, uploads: Uploads):
        self.uploads, self.num_bytes = uploads, 0

    def add(self, number: int) -> None:
        settings = self.uploads.settings
        if self.num_bytes + number > settings.max_bytes + HEADER_BYTES:
            raise too_large(settings)
        if self.uploads.num_bytes + number > settings.max_total_bytes:
            raise HTTPException(429, "the service holds too many bytes of files; try again", {"Retry-After": "1"})
        self.num_bytes += number
        self.uploads.num_bytes += number

    def __enter__(self) -> "Upload":
        return self

    def __exit__(self, *error: Any) -> None:
        self.uploads.num_bytes -= self.num_bytes


class Metrics:
    """Prometheus metrics of a service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        named = {"registry": self.registry}
        self.requests = Counter("tubevit_requests", "Requests to /classify.", ["status"], **named)
        self.in_work = Gauge("tubevit_requests_in_work", "Requests that were accepted and not answered yet.", **named)
        self.queue = Gauge("tubevit_queue_length", "Clips that wait for the model.", **named)
        self.batch_size = Histogram(
            "tubevit_batch_size", "Videos of a batch.", buckets=(1, 2, 4, 8, 16, 32, 64), **named
        )
        self.seconds = Histogram("tubevit_seconds", "Time of a request by stage.", ["stage"], buckets=SECONDS, **named)
        self.quantile = Gauge(
            "tubevit_latency_seconds", f"Quantiles of the last {RECENT} answered requests.", ["quantile"], **named
        )
        self.recent: deque[float] = deque(maxlen=RECENT)

    def text(self, queue_length: int) -> bytes:
        self.queue.set(queue_length)
        if self.recent:
            for quantile in (0.5, 0.9, 0.99):
                self.quantile.labels(quantile).set(float(np.quantile(self.recent, quantile)))
        return generate_latest(self.registry)


class Service:
    """
    Classifies the videos of requests, and counts them.

    classifier: a `VideoClassifier` of videos, on its device. name: shown in answers.

    Raises `LogitsNotFinite` for a model that has no finite logits for a clip of noise.
    """

    def __init__(self, classifier: Any, name: str, settings: ServiceSettings):
        check_model(classifier)
        self.classifier, self.name, self.settings, self.metrics = classifier, name, settings, Metrics()
        self.decoder = ClipDecoder(classifier.processor, settings.num_decoders, settings.limits)
        self.batcher = Batcher(classifier, settings.max_batch_size, settings.max_wait, self.metrics.batch_size.observe)
        self.uploads, self.num_in_work = Uploads(settings), 0
        # Clips that are decoded, or wait for the model: enough for a batch in work and the next one, so that their memory is bounded.
        self.clip_slots = asyncio.Semaphore(2 * settings.max_batch_size + settings.num_decoders)

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        await self.decoder.start()
        self.batcher.start()
        yield  # the server leaves this line when every accepted request is answered
        await self.batcher.close()
        await self.decoder.close()

    @property
    def is_working(self) -> bool:
        return self.batcher.task is not None and not self.batcher.task.done()

    async def classify(self, request: Request, top_k: int) -> dict[str, Any]:
        """The answer to a request. Raises `HTTPException` for one that is refused, and for a file that cannot be read."""
        if self.num_in_work >= self.settings.max_requests:
            raise HTTPException(429, "too many requests are in work; try again", {"Retry-After": "1"})
        self._count_in_work(1)
        try:
            scores, stages = await self._score(request)
        except (UnreadableFile, LogitsNotFinite) as error:
            raise HTTPException(422, str(error)) from None
        finally:
            self._count_in_work(-1)
        total = sum(stages.values())
        for stage, seconds in {**stages, "total": total}.items():
            self.metrics.seconds.labels(stage).observe(seconds)
        self.metrics.recent.append(total)
        labels, label_groups = self.classifier.model.config.id2label, self.classifier.label_groups
        return {
            "model": self.name,
            "predictions": best_labels(scores, labels, top_k, label_groups),
            "seconds": {stage: round(seconds, 6) for stage, seconds in stages.items()},
        }

    def _count_in_work(self, change: int) -> None:
        self.num_in_work += change
        self.metrics.in_work.set(self.num_in_work)

    async def _score(self, request: Request) -> tuple[np.ndarray, dict[str, float]]:
        """Scores of the video of a request, and the seconds of each stage."""
        times = [time.perf_counter()]
        with Upload(self.uploads) as upload:
            data = await in_time(read_body(request, self.settings, upload), self.settings.upload_seconds)
            times.append(time.perf_counter())
            await self.clip_slots.acquire()
            try:
                views = await self.decoder.decode(data)
            except BaseException:
                self.clip_slots.release()
                raise
            del data
        times.append(time.perf_counter())
        try:
            scores = await self.batcher.score(views)
        finally:
            self.clip_slots.release()
        times.append(time.perf_counter())
        return scores, dict(zip(STAGES, np.diff(times).tolist(), strict=True))


def create_app(classifier: Any, name: str, settings: ServiceSettings) -> FastAPI:
    """The application of a `Service` with these arguments."""
    service = Service(classifier, name, settings)
    text = f"Video classification by {name}."
    app = FastAPI(title="TubeViT", description=text, lifespan=service.lifespan, docs_url=None, redoc_url=None)
    app.state.metrics = service.metrics

    @app.post(
        "/classify",
        summary="Classify a video",
        openapi_extra={"requestBody": BODY},
        responses={status: {"description": text} for status, text in ERRORS.items()},
    )
    async def classify(
        request: Request,
        top_k: int = Query(5, ge=1, description="number of labels, of each label group if there are several"),
    ) -> dict[str, Any]:
        """A video as the file of a form, as the bytes of the body, or as `{"url": ...}` if the service allows the host."""
        return await service.classify(request, top_k)

    @app.exception_handler(RequestValidationError)
    async def refuse(request: Request, error: RequestValidationError) -> JSONResponse:
        """A wrong parameter as one line, as all other errors."""
        reasons = [f"{each['loc'][-1]}={each['input']!r:.40}: {each['msg']}" for each in error.errors()]
        return JSONResponse({"detail": "; ".join(reasons)}, 422)

    @app.middleware("http")
    async def count(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        status = 500  # of an error that the server reports
        try:
            response = await call_next(request)
            status = response.status_code
        finally:
            if request.url.path == "/classify":
                service.metrics.requests.labels(status).inc()
        return response

    @app.get("/docs", include_in_schema=False)
    async def show_docs() -> HTMLResponse:
        return docs_page()

    @app.get("/healthz", summary="Whether the service works")
    async def healthz() -> JSONResponse:
        status, code = ("ok", 200) if service.is_working else ("stopped", 503)
        return JSONResponse({"status": status, "model": name}, code)

    @app.get("/metrics", summary="Metrics for Prometheus", response_class=PlainTextResponse)
    async def read_metrics() -> Response:
        return Response(service.metrics.text(service.batcher.queue.qsize()), media_type=CONTENT_TYPE_LATEST)

    return app


def docs_page() -> HTMLResponse:
    """FastAPI's page of the OpenAPI description. The sentence in it is what a browser without a network shows; the script replaces it."""
    page = bytes(get_swagger_ui_html(openapi_url="openapi.json", title="TubeViT").body).decode()
    place = '<div id="swagger-ui">'
    text = (
        "This page loads its script from cdn.jsdelivr.net. If that host cannot be reached, read "
        '<a href="openapi.json">openapi.json</a>, which needs no network.'
    )
    return HTMLResponse(page.replace(place, f"{place}<p>{text}</p>"))


def check_model(classifier: Any) -> None:
    """Classify a clip of noise, so that a model without finite logits is refused before the first request."""
    processor = classifier.processor
    noise = np.random.default_rng(0).integers(0, 256, (processor.num_frames, 64, 64, 3), np.uint8)
    clips = read_views(processor, noise, do_sample_frames=False)
    scores_of(classifier, classifier(clips.to(classifier.model.device)).cpu().numpy())


async def in_time(awaitable: Awaitable[bytes], seconds: float) -> bytes:
    try:
        return await asyncio.wait_for(awaitable, seconds)
    except (TimeoutError, httpx.TimeoutException):
        raise HTTPException(408, f"the file did not arrive within {seconds:g} s") from None


async def read_body(request: Request, settings: ServiceSettings, upload: Upload) -> bytes:
    """The video of a request, whose bytes `upload` counts. Raises `HTTPException` with a status of `ERRORS`."""
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > settings.max_bytes + HEADER_BYTES:
        raise too_large(settings)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    limited = Request(request.scope, counted(request.receive, upload))
    if kind == "multipart/form-data":
        data = await read_form(limited, settings)
    elif kind == "application/json":
        data = await fetch(await read_url(limited), settings, upload)
    else:
        data = await limited.body()
    if not data:
        raise HTTPException(400, "the body holds no file")
    if len(data) > settings.max_bytes:
        raise too_large(settings)
    return data


def too_large(settings: ServiceSettings) -> HTTPException:
    return HTTPException(413, f"the file has more than {settings.max_bytes:,} bytes")


def counted(receive: Callable[[], Awaitable[Any]], upload: Upload) -> Callable[[], Awaitable[Any]]:
    """`receive` that raises 413 or 429 as soon as the body is larger than a file may be."""

    async def counting() -> Any:
        message = await receive()
        upload.add(len(message.get("body", b"")))
        return message

    return counting


async def read_form(request: Request, settings: ServiceSettings) -> bytes:
    """The field `file` of a form. Starlette keeps a file above 1 MB in an unnamed temporary file until the form is closed."""
    async with request.form(max_files=1, max_fields=8, max_part_size=2**16) as form:
        file = form.get("file")
        if file is None or isinstance(file, str):
            raise HTTPException(400, "the form has no file in the field `file`")
        return await file.read()


async def read_url(request: Request) -> str:
    try:
        url = (await request.json())["url"]
    except (ValueError, KeyError, TypeError, RecursionError):  # of brackets within brackets within brackets ...
        raise HTTPException(400, 'the body is not {"url": "..."}') from None
    if not isinstance(url, str):
        raise HTTPException(400, 'the body is not {"url": "..."}')
    return url


async def fetch(url: str, settings: ServiceSettings, upload: Upload) -> bytes:
    """The file behind a URL of an allowed host. Redirects are not followed: they could lead to another host."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
        url.encode()
    except ValueError:  # for a wrong host, a port above 65535, or half of a surrogate pair
        raise HTTPException(400, "the URL is malformed") from None
    if parts.scheme not in ("http", "https") or host not in settings.url_hosts:
        allowed = ", ".join(settings.url_hosts) or "none"
        raise HTTPException(403, f"files of this URL are not fetched; allowed hosts: {allowed}")
    chunks = []
    try:
        async with httpx.AsyncClient(timeout=settings.upload_seconds) as client, client.stream("GET", url) as response:
            if response.status_code != 200:
                raise HTTPException(422, f"the URL answers with status {response.status_code}")
            async for chunk in response.aiter_bytes():
                upload.add(len(chunk))
                chunks.append(chunk)
    except (httpx.RequestError, httpx.InvalidURL) as error:
        if isinstance(error, httpx.TimeoutException):
            raise
        raise HTTPException(422, f"the URL cannot be fetched: {type(error).__name__}") from None
    return b"".join(chunks)
