"""A video stream, and a server on this machine that sends it."""

import base64
import http.server
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count

import av
from PIL import Image
from video_files import moving_frames


def transport_stream(tmp_path) -> bytes:
    path = tmp_path / "live.ts"
    frames = moving_frames(50, 32, 48)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode())
    return path.read_bytes()


def serve(data: bytes, times: int) -> tuple[str, threading.Thread]:
    """A live stream that breaks off, `times` times, and then is gone."""
    server = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with server:
            for _ in range(times):
                connection, _ = server.accept()
                with connection:
                    connection.sendall(data)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return f"tcp://127.0.0.1:{server.getsockname()[1]}", thread


def send_jpegs(handler: http.server.BaseHTTPRequestHandler, number: int | None = None) -> None:
    """Motion JPEG as cameras send it: parts that replace each other, without an end or as many as `number`."""
    handler.send_response(200)
    handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
    handler.end_headers()
    pictures = moving_frames(8, 32, 48)
    for index in count() if number is None else range(number):
        file = io.BytesIO()
        Image.fromarray(pictures[index % 8]).save(file, "JPEG")
        handler.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + file.getvalue() + b"\r\n")
        time.sleep(0.01)


def send_chunks(handler: http.server.BaseHTTPRequestHandler, chunks: Iterator[bytes], ends: bool = False) -> None:
    """A response of unknown length; `ends` adds the chunk that marks the end."""
    handler.send_response(200)
    handler.send_header("Content-Type", "video/mp2t")
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for chunk in chunks:
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
    if ends:
        handler.wfile.write(b"0\r\n\r\n")


def send_unmarked(handler: http.server.BaseHTTPRequestHandler, data: bytes) -> None:
    """A response whose end is the end of the connection."""
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(data)


@contextmanager
def http_server(answers: dict[str, Callable[[http.server.BaseHTTPRequestHandler], None]]) -> Iterator[str]:
    """The URL, with the login "user", "p@ss", of a server with an answer per path."""
    login = "Basic " + base64.b64encode(b"user:p@ss").decode()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.close_connection = True
            if self.headers.get("Authorization") == login:
                with suppress(OSError):  # the reader closes the connection
                    answers[self.path.split("?")[0]](self)
            else:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://user:p%40ss@127.0.0.1:{server.server_port}"
        server.shutdown()
