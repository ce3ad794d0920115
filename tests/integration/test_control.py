"""The control socket against real clients, kind and unkind."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import stat
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from singd.cli import client
from singd.cli.output import CommandError
from singd.cli.paths import Paths
from singd.edges import control_wire as wire
from singd.edges.control import serve_control
from singd.errors import ConfigError, EdgeError

Handlers = Mapping[str, Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]]


async def echo(request: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"echo": dict(request)}


async def broken(request: Mapping[str, Any]) -> Mapping[str, Any]:
    raise ZeroDivisionError


async def refusing(request: Mapping[str, Any]) -> Mapping[str, Any]:
    raise ConfigError("no such thing", cure="write it")


async def unsendable(request: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"what": object()}


async def endless(request: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"long": "x" * (wire.ANSWER_MAX + 1)}


async def stuck(request: Mapping[str, Any]) -> Mapping[str, Any]:
    await trio.sleep_forever()
    return {}


HANDLERS: Handlers = {
    "echo": echo, "broken": broken, "refusing": refusing, "unsendable": unsendable, "endless": endless, "stuck": stuck,
}  # fmt: skip


@contextlib.asynccontextmanager
async def serving(path: Path, handlers: Handlers = HANDLERS) -> AsyncIterator[Path]:
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_control, path, handlers)
        yield path
        nursery.cancel_scope.cancel()


def daemon_at(path: Path) -> Paths:
    return Paths(config=path.parent / "singd.toml", state=path.parent, runtime=path.parent)


async def ask(path: Path, verb: str, **arguments: Any) -> dict[str, Any]:
    return await trio.to_thread.run_sync(lambda: client.ask(daemon_at(path), verb, **arguments))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "singd.sock"


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time-outs of half a second."""
    monkeypatch.setattr(wire, "TIMEOUT_S", 0.5)


def connected(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    with wire.address(path) as address:
        connection.connect(address)
    connection.settimeout(10)
    return connection


def received(connection: socket.socket) -> dict[str, Any]:
    """The one answer that came before the end of the connection; {} if none came."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            data += part
            if len(data) >= 4 and len(data) >= 4 + struct.unpack(">I", data[:4])[0]:
                break
    return json.loads(data[4:]) if data else {}


async def test_a_question_is_answered(path: Path) -> None:
    async with serving(path):
        answer = await ask(path, "echo", text="ü", none=None, peer_uid=12345)
        asked = {"verb": "echo", "text": "ü", "peer_uid": os.getuid()}
        assert answer == {"echo": asked}, "who asks is known from the kernel, whatever the request says"


async def test_directory_and_socket_are_for_the_daemons_user_and_group_only(path: Path) -> None:
    path.parent.mkdir(mode=0o777)
    path.parent.chmod(0o777)
    async with serving(path):
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert not path.exists()


async def test_a_path_of_any_length_is_found_by_both_sides(tmp_path: Path) -> None:
    path = tmp_path / ("deep" * 40) / "singd.sock"
    assert len(os.fsencode(path)) > 107
    async with serving(path):
        assert (await ask(path, "echo"))["echo"]["verb"] == "echo"


async def test_what_a_killed_daemon_left_behind_is_replaced(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead, wire.address(path) as address:
        dead.bind(address)
    with pytest.raises(CommandError) as told:
        await ask(path, "echo")
    assert told.value.exit == 69
    async with serving(path):
        assert await ask(path, "echo")


async def test_a_second_daemon_does_not_take_the_socket_away(path: Path) -> None:
    async with serving(path):
        with pytest.raises(ExceptionGroup) as refused:
            async with serving(path):
                pytest.fail("two daemons serve one socket")
        [error] = refused.value.exceptions
        assert isinstance(error, EdgeError)
        assert "another daemon serves" in str(error)
        assert await ask(path, "echo")


@pytest.mark.parametrize(
    ("verb", "exit_code", "text"),
    [
        ("nonsense", 2, "no verb 'nonsense'"),
        ("refusing", 65, "no such thing"),
        ("broken", 70, "broken failed in the daemon"),
        ("unsendable", 70, "cannot be sent"),
        ("endless", 1, "too long"),
    ],
)
async def test_an_error_of_a_verb_is_its_clients_answer(
    path: Path, verb: str, exit_code: int, text: str
) -> None:
    async with serving(path):
        with pytest.raises(CommandError) as told:
            await ask(path, verb)
        assert (told.value.exit, text in str(told.value)) == (exit_code, True)
        assert await ask(path, "echo")


async def test_a_handler_that_hangs_is_given_up(path: Path, patience: None) -> None:
    async with serving(path):
        with pytest.raises(CommandError) as told:
            await ask(path, "stuck")
    assert told.value.exit == 75


@pytest.mark.parametrize(
    "sent",
    [
        struct.pack(">I", 0), struct.pack(">I", wire.REQUEST_MAX + 1) + b"{", struct.pack(">I", 2**32 - 1),
        struct.pack(">I", 2) + b"[]", struct.pack(">I", 4) + b"null", struct.pack(">I", 3) + b"\xff\xfe\x00",
        struct.pack(">I", 60_000) + b"[" * 60_000, struct.pack(">I", 13) + b'{"verb": NaN}', b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">I", 10) + b'{"ve', struct.pack(">I", 5_010) + b'{"verb": ' + b"9" * 5_000 + b"}",
    ],
)  # fmt: skip
async def test_what_is_no_request_is_told_so_and_ends_only_its_own_connection(
    path: Path, sent: bytes
) -> None:
    def send() -> dict[str, Any]:
        with connected(path) as connection:
            with contextlib.suppress(BrokenPipeError):
                connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            return received(connection)

    async with serving(path):
        answer = await trio.to_thread.run_sync(send)
        assert answer["error"]["message"].startswith("not a request")
        assert await ask(path, "echo")


async def test_ten_thousand_frames_of_noise_leave_the_daemon_answering(path: Path) -> None:
    noise = random.Random(20260301)  # the same noise each time

    def frame() -> bytes:
        kind = noise.randrange(4)
        if kind == 0:
            return noise.randbytes(noise.randrange(1, 200))
        body = noise.randbytes(noise.randrange(1, 100))
        if kind == 1:
            body = json.dumps(
                {"verb": noise.choice([None, 1, [], "echo", "x" * 99, {"a": 1}]), "at": noise.random()}
            ).encode()
        if kind == 2:
            body = bytes(
                noise.choice(b'{}[]",:0123456789eE+-.tfn \\u') for _ in range(noise.randrange(1, 80))
            )
        return struct.pack(">I", len(body)) + body

    def flood() -> int:
        sent = 0
        while sent < 10_000:
            with connected(path) as connection, contextlib.suppress(OSError):
                for _ in range(100):
                    sent += 1
                    connection.sendall(frame())
        return sent

    async with serving(path):
        assert await trio.to_thread.run_sync(flood) >= 10_000
        assert await ask(path, "echo")


async def test_five_hundred_slow_clients_do_not_lock_the_others_out(path: Path, patience: None) -> None:
    def crowd() -> list[socket.socket]:
        crowd = [connected(path) for _ in range(500)]
        for one in crowd:
            with contextlib.suppress(OSError):
                one.send(b"\x00")
        return crowd

    async with serving(path):
        slow = await trio.to_thread.run_sync(crowd)
        try:
            assert await ask(path, "echo")
            answers = await trio.to_thread.run_sync(lambda: [received(one) for one in slow])
        finally:
            for one in slow:
                one.close()
        exits = [answer["error"]["exit"] for answer in answers if answer]
        assert exits.count(75) >= 400
        assert exits.count(76) >= 1


async def test_a_client_that_does_not_read_is_left_alone_after_a_while(path: Path, patience: None) -> None:
    async def long(request: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"long": "x" * (8 << 20)}

    async with serving(path, {"long": long, "echo": echo}):
        with connected(path) as deaf:
            deaf.sendall(wire.encode({"verb": "long"}, wire.REQUEST_MAX))
            await trio.sleep(1.2)
            with pytest.raises(wire.BadFrame):
                await trio.to_thread.run_sync(client._receive, deaf)
        assert await ask(path, "echo")


async def test_descriptors_that_are_sent_along_do_not_arrive(path: Path) -> None:
    async with serving(path):
        with connected(path) as connection:
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(5):
                socket.send_fds(connection, [wire.encode({"verb": "echo"}, wire.REQUEST_MAX)], [0] * 50)
                answer = await trio.to_thread.run_sync(received, connection)
                assert answer["echo"]
            assert len(os.listdir("/proc/self/fd")) <= before + 5  # of 250


async def test_another_user_is_refused_even_where_the_files_would_let_it_in(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        wire, "peer_uid", lambda connection: os.geteuid() + 4_711 if "run" in str(path) else 0
    )
    monkeypatch.setattr(wire, "peer_groups", lambda connection: {54_321})
    async with serving(path):

        def asking() -> dict[str, Any]:
            with connected(path) as connection:
                with contextlib.suppress(BrokenPipeError):
                    connection.sendall(wire.encode({"verb": "echo"}, wire.REQUEST_MAX))
                return received(connection)

        answer = await trio.to_thread.run_sync(asking)
    assert answer["error"]["exit"] == 77


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize(("groups", "served"), [([], False), ([0], True)])
async def test_the_kernels_word_decides_who_another_user_is(
    tmp_path: Path, groups: list[int], served: bool
) -> None:
    def as_nobody() -> int:
        """The exit code of a process without rights that has the socket's directory open already."""
        directory = os.open(path.parent, os.O_PATH)
        child = os.fork()
        if child == 0:
            try:
                os.setgroups(groups)
                os.setresgid(65_534, 65_534, 65_534)
                os.setresuid(65_534, 65_534, 65_534)
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.connect(f"/proc/self/fd/{directory}/singd.sock")
                    with contextlib.suppress(BrokenPipeError):
                        connection.sendall(wire.encode({"verb": "echo"}, wire.REQUEST_MAX))
                    os._exit(0 if "echo" in received(connection) else 7)
            except PermissionError:
                os._exit(13)
            finally:
                os._exit(99)
        os.close(directory)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    path = tmp_path / "run" / "singd.sock"
    async with serving(path):
        path.parent.chmod(0o755)
        path.chmod(0o666)  # the files let everyone in: what is left is the check of the peer
        assert await trio.to_thread.run_sync(as_nobody) == (0 if served else 7)
        path.chmod(0o660)
        assert await trio.to_thread.run_sync(as_nobody) == (0 if served else 13)


async def test_a_directory_of_somebody_else_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.parent.mkdir()
    path.parent.chmod(0o777)
    uid = os.geteuid() + 1
    monkeypatch.setattr("singd.edges.control.os.geteuid", lambda: uid)
    if path.parent.stat().st_uid != 0:
        path.parent.chmod(0o700)
    with pytest.raises(ExceptionGroup) as refused:
        async with serving(path):
            pytest.fail("served in a directory that others can write to")
    assert "is not ours" in str(refused.value.exceptions[0])


def test_the_client_says_where_it_looked_and_how_to_start_it(path: Path) -> None:
    path.parent.mkdir()
    with pytest.raises(CommandError) as told:
        client.ask(daemon_at(path), "status")
    assert str(path) in str(told.value)
    assert "singd run" in told.value.cure
    assert told.value.exit == 69


async def test_the_client_does_not_talk_to_a_stranger(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(path):
        monkeypatch.setattr(client.wire, "peer_uid", lambda connection: 4_711)
        with pytest.raises(CommandError) as told:
            await ask(path, "echo")
    assert told.value.exit == 77
