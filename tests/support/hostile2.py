"""An HTTP/2 server of our own that misbehaves: `h2` on the server's side, one thread for each connection."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h2.exceptions

Answer = Callable[[h2.connection.H2Connection, int, socket.socket], None]
"""Answers a request: the connection, the number of its stream, and the wire for what `h2` would not send."""


@contextmanager
def hostile2(tls: tuple[Path, Path], answers: list[Answer]) -> Iterator[str]:
    """Start a server that gives ``answers`` one after the other, and the last one for ever."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*tls)
    context.set_alpn_protocols(["h2"])
    listener = socket.create_server(("127.0.0.1", 0))
    left = list(answers)
    connections: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def accept() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            connections.append(plain)
            threads.append(threading.Thread(target=serve, args=(plain,)))
            threads[-1].start()

    def serve(plain: socket.socket) -> None:
        try:
            with context.wrap_socket(plain, server_side=True) as wire:
                connections.append(wire)
                _serve(wire, left)
        except (OSError, h2.exceptions.ProtocolError):
            plain.close()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join()
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # closed long ago
        for thread in threads:
            thread.join()


def _serve(wire: socket.socket, left: list[Answer]) -> None:
    state = h2.connection.H2Connection(
        h2.config.H2Configuration(client_side=False, validate_outbound_headers=False)
    )
    state.initiate_connection()
    wire.sendall(state.data_to_send())
    while data := wire.recv(65536):
        for event in state.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                answer = left.pop(0) if len(left) > 1 else left[0]
                answer(state, event.stream_id or 0, wire)
        wire.sendall(state.data_to_send())


def good(body: bytes) -> Answer:
    """As it should be (bodies of one frame)."""

    def answer(state: h2.connection.H2Connection, number: int, _: socket.socket) -> None:
        state.send_headers(number, [(":status", "200"), ("content-length", str(len(body))), ("etag", '"x"')])
        state.send_data(number, body, end_stream=True)

    return answer
