"""A headless Chromium that tests drive by the DevTools protocol, through the pipe that it reads commands from; and a server of files."""

import base64
import functools
import http.server
import json
import os
import select
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}


def find_chromium() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name)) is not None), None)


class Handler(http.server.SimpleHTTPRequestHandler):
    headers_added: dict[str, str] = {}

    def end_headers(self) -> None:
        for name, value in self.headers_added.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


@contextmanager
def serve(folder: Path, headers: dict[str, str] | None = None) -> Iterator[str]:
    """The address of a static server of the folder on this machine."""
    handler = type("FolderHandler", (Handler,), {"headers_added": headers or {}})
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(handler, directory=str(folder))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


class Page:
    """A page of a headless Chromium with a profile of its own. timeout: seconds for an answer."""

    def __init__(self, profile: Path, *options: str, timeout: float = 120):
        self.timeout, self.number, self.buffer, self.events = timeout, 0, b"", []
        (read_commands, self.commands), (self.answers, write_answers) = os.pipe(), os.pipe()

        def place_pipes() -> None:  # Chromium reads commands from descriptor 3 and writes answers to 4
            for descriptor, target in (
                (os.dup2(read_commands, 20), 3),
                (os.dup2(write_answers, 21), 4),
            ):
                os.dup2(descriptor, target, inheritable=True)

        self.process = subprocess.Popen(
            [
                find_chromium() or "chromium",
                *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe"),
                *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
                f"--user-data-dir={profile}",
                *options,
                "about:blank",
            ],
            preexec_fn=place_pipes,
            close_fds=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_commands)
        os.close(write_answers)
        self.session = ""
        target = next(each for each in self.send("Target.getTargets")["targetInfos"] if each["type"] == "page")
        self.session = self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "DOM", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command of the protocol."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive(time.monotonic() + self.timeout)
            if answer.get("id") == self.number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self.events.append(answer)

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.answers], [], [], max(0.0, deadline - time.monotonic()))
            part = os.read(self.answers, 1 << 20) if ready else b""
            assert part, "Chromium ended" if ready else f"no answer of Chromium in {self.timeout} s"
            self.buffer += part
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def evaluate(self, code: str) -> Any:
        """The JSON value of an expression in the page; a promise is awaited."""
        answer = self.send("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str) -> Any:
        """The first value of an expression that is true."""
        deadline = time.monotonic() + self.timeout
        while not (value := self.evaluate(condition)):
            assert time.monotonic() < deadline, (condition, self.evaluate("document.body.innerText"))
            time.sleep(0.05)
        return value

    def open(self, url: str) -> None:
        self.send("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def choose(self, selector: str, *paths: Path) -> None:
        """Choose files in a file input."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", files=[str(path) for path in paths], nodeId=node)

    def screenshot(self, path: Path, width: int = 1000, height: int = 900, scheme: str = "light") -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.send("Emulation.setDeviceMetricsOverride", **metrics)
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        time.sleep(0.3)
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", captureBeyondViewport=True)["data"]))

    def urls(self) -> list[str]:
        """Addresses that the page has asked for."""
        return [
            each["params"]["request"]["url"]
            for each in self.events
            if each.get("method") == "Network.requestWillBeSent"
        ]

    def close(self) -> None:
        os.close(self.commands)
        self.process.terminate()
        self.process.wait(20)
        os.close(self.answers)
