"""The explorer of a model that is too large for a page: a page that has its images decoded by this computer."""

from __future__ import annotations

import json
import math
import sys
import threading
from collections.abc import Mapping
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch
from torch import Tensor

from convae.core.errors import ConvaeError, OutputError
from convae.core.names import count_text
from convae.explorer.contents import Map
from convae.explorer.page import page_of
from convae.interop.graphs import Graph, build_graph
from convae.latents import Session

LOCAL = "127.0.0.1"
_INTEGERS = ("label", "codes")


class ExplorerServer:
    """Serves the explorer of a model on this computer only, and encodes and decodes for it.

    A context manager; `url` is the address of the page.

    Args:
        session: a model with images.
        port: of the server; 0 for a free one.
        projection: of the map; see `write_page`.

    Raises:
        ConfigError: there are too few images for the projection, or its package is not installed.
        DataError: the images are missing, damaged or empty.
        OutputError: the port cannot be used.
    """

    def __init__(self, session: Session, *, port: int = 0, projection: Map | None = None) -> None:
        graphs = {name: build_graph(session.model, name) for name in ("encode", "decode")}
        self._calls = {name: RemoteGraph(graph) for name, graph in graphs.items()}
        programs = {name: call.described for name, call in self._calls.items()}
        page = page_of(session, projection, programs).encode()
        try:
            self._server = _Server((LOCAL, port), _handler(page, self._calls))
        except OSError as error:
            raise OutputError(f"port {port}: {error.strerror}. Choose another --port") from error

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{LOCAL}:{self._server.server_port}/"

    def serve_forever(self) -> None:
        """Answers until `close` is called."""
        self._server.serve_forever()

    def close(self) -> None:
        """Stops answering."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> ExplorerServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that is closed while it waits is no error."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class RemoteGraph:
    """A graph that is called with lists of numbers by name, for one image.

    Attributes:
        size: number of values of all inputs.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._lock = threading.Lock()
        self.size = sum(math.prod(each.shape[1:]) for each in graph.examples.values())

    @cached_property
    def described(self) -> dict[str, Any]:
        """What the page needs: the name, and the number of values of each output in order."""
        found = self._run({name: example[:1] for name, example in self._graph.examples.items()})
        outputs = {name: math.prod(value.shape) for name, value in zip(self._graph.outputs, found, strict=True)}
        return {"remote": self._graph.name, "outputs": outputs}

    def __call__(self, given: Any) -> bytes:
        """The outputs after each other, as little-endian float32.

        Raises:
            ValueError: the inputs are not lists of finite numbers by name, with as many as the graph takes.
        """
        examples = self._graph.examples
        if not isinstance(given, Mapping) or given.keys() != examples.keys():
            raise ValueError(f"expected {', '.join(examples)}")
        outputs = self._run({name: _tensor(name, given[name], example) for name, example in examples.items()})
        return b"".join(value.float().cpu().contiguous().numpy().astype("<f4").tobytes() for value in outputs)

    def _run(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        device = next(self._graph.module.parameters()).device
        with self._lock, torch.inference_mode():
            outputs: tuple[Tensor, ...] = self._graph.module(*(each.to(device) for each in inputs.values()))
        return outputs


def _tensor(name: str, values: Any, example: Tensor) -> Tensor:
    """A list of numbers as a tensor like an example of one image.

    Raises:
        ValueError: it is none, or its length is another.
    """
    shape = (1, *example.shape[1:])
    kinds = (int,) if name in _INTEGERS else (int, float)
    if not isinstance(values, list) or len(values) != math.prod(shape):
        raise ValueError(f"expected {count_text(math.prod(shape), 'value')} of {name}")
    if not all(type(each) in kinds and math.isfinite(each) for each in values):
        raise ValueError(f"expected finite numbers as {name}")
    return torch.tensor(values, dtype=example.dtype).view(shape)


def _handler(page: bytes, calls: Mapping[str, RemoteGraph]) -> type[BaseHTTPRequestHandler]:
    """The answers to requests: the page, and the calls."""
    largest = 1000 + 32 * max(call.size for call in calls.values())

    class Handler(BaseHTTPRequestHandler):
        timeout = 30

        def do_GET(self) -> None:
            if self._is_local() and self.path == "/":
                self._answer(HTTPStatus.OK, page, "text/html; charset=utf-8")
            else:
                self._answer(HTTPStatus.NOT_FOUND, b"")

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            call = calls.get(self.path.removeprefix("/"))
            if not self._is_local() or call is None:
                return self._answer(HTTPStatus.NOT_FOUND, b"")
            if not length.isdecimal() or int(length) > largest:
                return self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, b"")
            try:
                body = call(json.loads(self.rfile.read(int(length))))
            except (ValueError, RecursionError, ConvaeError) as error:
                return self._answer(HTTPStatus.BAD_REQUEST, str(error).encode())
            return self._answer(HTTPStatus.OK, body, "application/octet-stream")

        def _is_local(self) -> bool:
            """Whether the request is for this address: other sites cannot reach the model through a browser."""
            host = self.headers.get("Host", "").partition(":")[0]
            origin = self.headers.get("Origin")
            return host in (LOCAL, "localhost") and origin in (None, f"http://{self.headers['Host']}")

        def _answer(self, status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Requests are not logged."""

    return Handler
