"""Doors, the chaos runner's TCP proxies between processes: they cut, hold or mute connections, and then work again."""

import socket
import threading

import pytest

from ops.chaos.doors import CUT, HELD, MUTE, SHUT, Doors
from tests.waiting import until


@pytest.fixture
def echo():
    """A server that answers each line with the same line: its port, and the list of its lines."""
    server = socket.create_server(("127.0.0.1", 0))
    received = []

    def serve(connection):
        with connection, connection.makefile("rb") as lines:
            try:
                for line in lines:
                    received.append(line)
                    connection.sendall(line)
            except OSError:
                pass  # the door has cut the connection

    def accept():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield server.getsockname()[1], received
    server.close()


@pytest.fixture
def doors():
    made = Doors()
    yield made
    made.close()


def connect(port):
    connection = socket.create_connection(("127.0.0.1", port), 10)
    connection.settimeout(10)
    return connection


def say(connection, word):
    connection.sendall(word + b"\n")
    return connection.recv(100)


def test_open_door_passes_data_both_ways(doors, echo):
    """A door is the chaos runner's TCP proxy between two processes."""
    port = doors.to("echo", echo[0])
    assert doors.to("echo", echo[0]) == port
    with connect(port) as connection:
        assert say(connection, b"one") == b"one\n"
        assert say(connection, b"x" * 50) == b"x" * 50 + b"\n"


@pytest.mark.parametrize("style", [CUT, HELD, MUTE, SHUT])
def test_door_works_again_after_every_kind_of_fault(doors, echo, style):
    """A faulty door ends its connections; a new one works once the fault is over."""
    port = doors.to("echo", echo[0])
    with connect(port) as connection:
        say(connection, b"one")
        over = doors.trouble("echo", 0, style, 0.3)
        with pytest.raises(OSError), connect(port):
            if say(connection, b"two") == b"":
                raise ConnectionResetError
        until(over)
    with connect(port) as connection:
        assert say(connection, b"three") == b"three\n"


def test_mute_door_passes_the_request_and_drops_the_answer(doors, echo):
    port = doors.to("echo", echo[0])
    with connect(port) as connection:
        say(connection, b"one")
        over = doors.trouble("echo", 0, MUTE, 0.5)
        connection.sendall(b"two\n")
        until(lambda: b"two\n" in echo[1])
        with pytest.raises(OSError):
            if connection.recv(100) == b"":
                raise ConnectionResetError
        until(over)


def test_held_door_passes_nothing(doors, echo):
    port = doors.to("echo", echo[0])
    with connect(port) as connection:
        say(connection, b"one")
        over = doors.trouble("echo", 0, HELD, 0.5)
        connection.sendall(b"two\n")
        until(over)
    assert b"two\n" not in echo[1]
