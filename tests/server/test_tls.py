"""TLS as clients meet it: what is served, what is refused, and certificates that change while all goes on."""

import datetime as dt
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from tests.server.serving import Server, Wire, random_file
from tests.support import tools
from tests.support.certificates import Authority, Issued
from tests.support.processes import wait_until


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def pair(tmp_path: Path, authority: Authority) -> Issued:
    """A pair at paths of its own, to be replaced."""
    return put(authority.issue("localhost", "127.0.0.1"), Issued(tmp_path / "server.crt", tmp_path / "server.key"))


def put(issued: Issued, where: Issued) -> Issued:
    """Put a pair into place, each file at once."""
    for new, old in ((issued.certificate, where.certificate), (issued.key, where.key)):
        shutil.copy(new, old.with_suffix(".new"))
        os.replace(old.with_suffix(".new"), old)
    return where


def serving(folder: Path, pair: Issued, *, spans: dict[str, float] | None = None, **tls: Any) -> Server:
    told = {"certificate": str(pair.certificate), "key": str(pair.key), **tls}
    return Server(folder, tls=told, workers=2, spans=spans or {})


def trusting(authority: Authority, client: Issued | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.certificate)
    if client is not None:
        context.load_cert_chain(client.certificate, client.key)
    return context


def served(server: Server) -> int:
    """The serial number of the certificate that a new connection gets."""
    pem = ssl.get_server_certificate(("127.0.0.1", server.port), timeout=10)
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


def serial(issued: Issued) -> int:
    return x509.load_pem_x509_certificate(issued.certificate.read_bytes()).serial_number


@pytest.fixture
def server(tmp_path: Path, pair: Issued) -> Iterator[Server]:
    with serving(tmp_path, pair) as running:
        yield running


def test_https_is_served(server: Server, authority: Authority) -> None:
    assert f"READY https://127.0.0.1:{server.port}" in server.child.output
    with Wire(server.port, context=trusting(authority)) as wire:
        assert json.loads(wire.request("GET", "/tell").body)["scheme"] == "https"
        assert json.loads(wire.request("PUT", "/put", body=bytes(3_000_000)).body)[0] == 3_000_000


def test_file_is_sent_whole(server: Server, authority: Authority, tmp_path: Path) -> None:
    content = random_file(tmp_path / "file", 5_000_000)
    with Wire(server.port, context=trusting(authority)) as wire:
        answer = wire.request("GET", f"/send-file?path={tmp_path}/file")

    assert answer.headers["x-way"] == "file"
    assert answer.body == content


def test_plain_request_is_told_to_use_https(server: Server) -> None:
    with Wire(server.port) as wire:
        answer = wire.request("GET", "/tell")

        assert answer.status == 400
        assert "HTTPS" in json.loads(answer.body)["errors"][0]["message"]


def test_client_that_does_not_trust_us_is_told_in_the_log(server: Server) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        Wire(server.port, context=ssl.create_default_context())

    server.child.wait_line('msg="TLS failed" part=server client=127.0.0.1 reason="tlsv1 alert unknown ca"')


def test_early_answer_arrives(server: Server, tmp_path: Path, authority: Authority) -> None:
    (tmp_path / "body").write_bytes(bytes(32_000_000))
    url = f"https://127.0.0.1:{server.port}/deny"
    command: list[str | Path] = [
        tools.path("curl"),
        "-sS",
        "--cacert",
        authority.certificate,
        "-H",
        "Expect:",
        "-w",
        "%{http_code}",
    ]
    done = subprocess.run([*command, "-o", "/dev/null", "-T", tmp_path / "body", url], capture_output=True, timeout=60)

    assert (done.stdout, done.returncode) == (b"401", 0)


def test_silent_handshake_is_given_up_and_holds_up_nobody(tmp_path: Path, pair: Issued, authority: Authority) -> None:
    server = serving(tmp_path, pair, spans={"header_timeout": 0.4})
    with server, Wire(server.port, timeout=10) as silent, Wire(server.port, timeout=10) as stuck:
        stuck.send(b"\x16\x03\x01")
        with Wire(server.port, context=trusting(authority)) as wire:
            assert wire.request("GET", "/tell").status == 200

        assert silent.closed()
        assert stuck.closed()


@pytest.mark.parametrize(("minimum", "spoken"), [("1.2", True), ("1.3", False)])
def test_minimum_version_is_kept(
    tmp_path: Path, pair: Issued, authority: Authority, minimum: str, spoken: bool
) -> None:
    context = trusting(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with serving(tmp_path, pair, minimum=minimum) as server:
        if spoken:
            with Wire(server.port, context=context) as wire:
                assert wire.request("GET", "/tell").status == 200
        else:
            with pytest.raises(ssl.SSLError):
                Wire(server.port, context=context)


@pytest.mark.parametrize(
    ("clients", "given", "served"),
    [
        ("none", False, True),
        ("verified-if-given", False, True),
        ("verified-if-given", True, True),
        ("required", True, True),
        ("required", False, False),
    ],
)
def test_client_certificates_are_asked_as_told(
    tmp_path: Path, pair: Issued, authority: Authority, clients: str, given: bool, served: bool
) -> None:
    context = trusting(authority, authority.issue("alice", client=True) if given else None)
    tls: dict[str, Any] = {"clients": clients, "authorities": [str(authority.certificate)]}
    with serving(tmp_path, pair, **tls) as server:
        assert is_answered(server, context) == served


def test_client_certificate_of_a_stranger_is_refused(tmp_path: Path, pair: Issued, authority: Authority) -> None:
    stranger = Authority(tmp_path / "stranger", "A Stranger").issue("mallory", client=True)
    tls: dict[str, Any] = {"clients": "verified-if-given", "authorities": [str(authority.certificate)]}
    with serving(tmp_path, pair, **tls) as server:
        assert not is_answered(server, trusting(authority, stranger))


def is_answered(server: Server, context: ssl.SSLContext) -> bool:
    """In TLS 1.3 a refusal comes after the client's side of the handshake is done."""
    try:
        with Wire(server.port, context=context) as wire:
            return wire.request("GET", "/tell").status == 200
    except (ssl.SSLError, ConnectionResetError, AssertionError):
        return False


# -- what is agreed on


def agreed(server: Server, authority: Authority, *options: str, said: bytes = b"") -> str:
    """What OpenSSL's own client tells of a connection."""
    command: list[str | Path] = [tools.path("openssl"), "s_client", "-connect", f"127.0.0.1:{server.port}"]
    command += ["-CAfile", authority.certificate, *options]
    done = subprocess.run(command, input=said, capture_output=True, timeout=60)
    return (done.stdout + done.stderr).decode(errors="replace")


AES_128, AES_256, CHACHA = "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ((AES_256, CHACHA, AES_128), AES_128),
        ((AES_256, CHACHA), AES_256),
        ((CHACHA, AES_256, AES_128), CHACHA),
    ],
)
def test_cheapest_cipher_for_both_sides_is_chosen(
    server: Server, authority: Authority, offered: tuple[str, ...], chosen: str
) -> None:
    assert f"Cipher is {chosen}" in agreed(server, authority, "-ciphersuites", ":".join(offered))


def test_cheapest_cipher_is_chosen_in_tls_1_2(server: Server, authority: Authority) -> None:
    told = agreed(server, authority, "-tls1_2", "-cipher", "ECDHE+AES256:ECDHE+CHACHA20:ECDHE+AES128")

    assert "Cipher is ECDHE-ECDSA-AES128-GCM-SHA256" in told


def test_http_1_is_the_protocol(server: Server, authority: Authority) -> None:
    assert "ALPN protocol: http/1.1" in agreed(server, authority, "-alpn", "h2,http/1.1")
    assert "No ALPN negotiated" in agreed(server, authority, "-alpn", "h2")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_session_is_resumed_by_every_worker(server: Server, authority: Authority, version: ssl.TLSVersion) -> None:
    context = trusting(authority)
    context.maximum_version = version
    with Wire(server.port, context=context) as first:
        pids = {json.loads(first.request("GET", "/tell").body)["pid"]}
        session = secured(first).session
        again = [Wire(server.port, context=context, session=session) for _ in range(8)]
        for wire in again:
            pids.add(json.loads(wire.request("GET", "/tell").body)["pid"])

        assert [secured(wire).session_reused for wire in again] == [True] * 8
        assert len(pids) == 2
        for wire in again:
            wire.close()


def test_session_with_a_client_certificate_is_resumed(tmp_path: Path, pair: Issued, authority: Authority) -> None:
    context = trusting(authority, authority.issue("alice", client=True))
    tls: dict[str, Any] = {"clients": "required", "authorities": [str(authority.certificate)]}
    with serving(tmp_path, pair, **tls) as server, Wire(server.port, context=context) as first:
        first.request("GET", "/tell")
        with Wire(server.port, context=context, session=secured(first).session) as second:
            assert second.request("GET", "/tell").status == 200
            assert secured(second).session_reused


def secured(wire: Wire) -> ssl.SSLSocket:
    assert isinstance(wire.socket, ssl.SSLSocket)
    return wire.socket


def test_client_may_change_its_keys(server: Server, authority: Authority) -> None:
    """`K` makes OpenSSL's client renew its key and ask for ours."""
    command: list[str | Path] = [tools.path("openssl"), "s_client", "-connect", f"127.0.0.1:{server.port}"]
    command += ["-CAfile", authority.certificate, "-tls1_3"]
    ask = b"GET /tell HTTP/1.1\r\nHost: a\r\n"
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        steps = [(b"K\n", b"KEYUPDATE"), (ask + b"\r\n", b"HTTP/1.1 200")]
        for line, answer in [*steps, steps[0], (ask + b"Connection: close\r\n\r\n", b"HTTP/1.1 200")]:
            client.stdin.write(line)
            client.stdin.flush()
            while answer not in (told := client.stdout.readline()):
                assert told, "the connection broke"
        rest = client.stdout.read()

    assert b"closed" in rest


def read_all(wire: socket.socket) -> bytes:
    parts = []
    while part := wire.recv(4096):
        parts.append(part)
    return b"".join(parts)


def test_answer_that_ends_the_connection_says_so(server: Server, authority: Authority) -> None:
    """Python reports a missing close_notify when asked to."""
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        context = trusting(authority)
        with context.wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False) as wire:
            wire.sendall(b"GET /chunks HTTP/1.0\r\n\r\n")

            assert read_all(wire).endswith(b"one two")


def test_answer_that_is_broken_off_does_not_say_it_was_all(server: Server, authority: Authority) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        context = trusting(authority)
        with context.wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False) as wire:
            wire.sendall(b"GET /fail?late=1 HTTP/1.0\r\n\r\n")
            with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
                read_all(wire)


def test_client_that_leaves_is_noticed_while_its_request_is_answered(
    server: Server, authority: Authority, tmp_path: Path
) -> None:
    begun, note = tmp_path / "begun", tmp_path / "note"
    with Wire(server.port, context=trusting(authority)) as wire:
        wire.send(f"GET /watch?begun={begun}&note={note} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        wait_until(begun.exists, "the request to be under way")

    wait_until(lambda: note.exists() and note.read_text() == "http.disconnect", "the application to hear of it")


def test_garbage_in_place_of_a_record_ends_the_connection_alone(server: Server, authority: Authority) -> None:
    with Wire(server.port, context=trusting(authority)) as wire:
        wire.request("GET", "/tell")
        os.write(wire.socket.fileno(), b"GET / HTTP/1.1\r\n\r\n" * 10)
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            read_all(wire.socket)
    with Wire(server.port, context=trusting(authority)) as wire:
        assert wire.request("GET", "/tell").status == 200

    assert "Traceback" not in server.child.output


# -- certificates that change


@pytest.mark.parametrize("signalled", [True, False])
def test_new_certificate_is_served_within_five_seconds(
    server: Server, pair: Issued, authority: Authority, signalled: bool
) -> None:
    new = authority.issue("localhost", "127.0.0.1")
    put(new, pair)
    if signalled:
        server.child.kill(signal.SIGHUP)

    wait_until(lambda: {served(server) for _ in range(6)} == {serial(new)}, "both workers to serve it", timeout=5)


def test_push_longer_than_a_reload_succeeds_while_new_connections_get_the_new_certificate(
    server: Server, pair: Issued, authority: Authority
) -> None:
    old, new = serial(pair), authority.issue("localhost", "127.0.0.1")
    with Wire(server.port, context=trusting(authority)) as push, Wire(server.port, context=trusting(authority)) as idle:
        idle.request("GET", "/tell")
        push.send(b"PUT /put HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n" + bytes(1_000_000))
        put(new, pair)
        server.child.kill(signal.SIGHUP)
        wait_until(lambda: served(server) == serial(new) != old, "the new certificate", timeout=5)
        push.send(bytes(1_000_000))

        assert json.loads(push.answer().body)[0] == 2_000_000
        assert idle.request("GET", "/tell").status == 200


def test_no_connection_is_dropped_by_reloads_under_load(server: Server, pair: Issued, authority: Authority) -> None:
    failures: list[object] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                with Wire(server.port, context=trusting(authority)) as wire:
                    assert [wire.request("GET", "/tell").status for _ in range(5)] == [200] * 5
            except (OSError, AssertionError) as error:
                failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        new = put(authority.issue("localhost", "127.0.0.1"), pair)
        server.child.kill(signal.SIGHUP)
        wait_until(lambda new=new: served(server) == serial(new), "the new certificate", timeout=5)  # type: ignore[misc]
    done.set()
    for thread in threads:
        thread.join()

    assert failures == []


BAD: dict[str, Any] = {
    "another key": lambda pair, other: shutil.copy(other.key, pair.key),
    "no PEM": lambda pair, other: pair.certificate.write_text("nonsense"),
    "an empty file": lambda pair, other: pair.certificate.write_text(""),
    "no key": lambda pair, other: pair.key.unlink(),
    "half a file": lambda pair, other: pair.certificate.write_bytes(other.certificate.read_bytes()[:200]),
}


@pytest.mark.parametrize("how", BAD)
def test_bad_certificate_keeps_the_old_and_says_so(
    server: Server, pair: Issued, authority: Authority, how: str
) -> None:
    before, other = serial(pair), authority.issue("localhost")
    BAD[how](pair, other)
    server.child.kill(signal.SIGHUP)

    server.child.wait_line("the new certificate cannot be used; the old one stays")
    with Wire(server.port, context=trusting(authority)) as wire:
        assert wire.request("GET", "/tell").status == 200
    assert served(server) == before


def test_good_certificate_after_a_bad_one_is_served(server: Server, pair: Issued, authority: Authority) -> None:
    pair.certificate.write_text("nonsense")
    server.child.wait_line("cannot be used; the old one stays")
    new = authority.issue("localhost", "127.0.0.1")
    put(new, pair)

    wait_until(lambda: served(server) == serial(new), "the new certificate", timeout=5)


def test_bad_certificate_is_told_once(server: Server, pair: Issued) -> None:
    pair.certificate.write_text("nonsense")
    server.child.wait_for(lambda: server.child.output.count("cannot be used") == 2, "both workers to tell")
    pair.certificate.write_text("more nonsense")
    server.child.wait_for(lambda: server.child.output.count("cannot be used") >= 4, "both workers to look again")

    assert server.child.output.count("cannot be used") == 4


# -- at the start


def start_refused(folder: Path, pair: Issued, **tls: Any) -> str:
    server = serving(folder, pair, **tls)
    assert server.child.wait() == 1
    server.stop()
    assert "Traceback" not in server.child.output
    return next(line for line in server.child.output.splitlines() if line.startswith("REFUSED"))


def test_key_of_another_certificate_stops_the_start(tmp_path: Path, pair: Issued, authority: Authority) -> None:
    shutil.copy(authority.issue("other").key, pair.key)

    assert "does not belong to the certificate" in start_refused(tmp_path, pair)


def test_missing_certificate_stops_the_start(tmp_path: Path, pair: Issued) -> None:
    pair.certificate.unlink()

    assert f"{pair.certificate}: No such file" in start_refused(tmp_path, pair)


def test_encrypted_key_stops_the_start(tmp_path: Path, pair: Issued) -> None:
    openssl = tools.path("openssl")
    locked = tmp_path / "locked.key"
    subprocess.run([openssl, "pkey", "-aes256", "-passout", "pass:x", "-in", pair.key, "-out", locked], check=True)

    assert "the key is encrypted" in start_refused(tmp_path, Issued(pair.certificate, locked))


def test_key_file_may_hold_more_than_the_key(tmp_path: Path, pair: Issued) -> None:
    """`openssl ecparam -genkey` writes the curve before it; others put certificate and key into one file."""
    whole = pair.certificate.read_bytes() + pair.key.read_bytes()
    pair.certificate.write_bytes(whole)
    pair.key.write_bytes(b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + whole)

    with serving(tmp_path, pair) as server:
        assert served(server)


def test_key_that_is_none_stops_the_start(tmp_path: Path, pair: Issued) -> None:
    pair.key.write_text("nonsense")

    assert f"the key {pair.key} cannot be used" in start_refused(tmp_path, pair)


def test_key_too_weak_stops_the_start(tmp_path: Path) -> None:
    made = Issued(tmp_path / "weak.crt", tmp_path / "weak.key")
    options = "req -newkey rsa:1024 -nodes -x509 -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    where: list[str | Path] = ["-keyout", made.key, "-out", made.certificate]
    subprocess.run([tools.path("openssl"), *options.split(), *where], check=True, capture_output=True)

    assert f"the certificate {made.certificate} cannot be used: ee key too small" in start_refused(tmp_path, made)


def test_client_authority_that_is_none_stops_the_start(tmp_path: Path, pair: Issued) -> None:
    (tmp_path / "ca.crt").write_text("nonsense")

    refused = start_refused(tmp_path, pair, clients="required", authorities=[str(tmp_path / "ca.crt")])
    assert f"the client authority {tmp_path}/ca.crt cannot be used" in refused


def test_certificate_with_a_common_name_only_is_served_with_a_warning(tmp_path: Path) -> None:
    made = Issued(tmp_path / "domain.crt", tmp_path / "domain.key")
    command: list[str | Path] = [
        tools.path("openssl"),
        "req",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-sha256",
        "-x509",
        "-days",
        "365",
    ]
    where: list[str | Path] = ["-keyout", made.key, "-out", made.certificate, "-subj", "/CN=registry.example.com"]
    subprocess.run([*command, *where], check=True, capture_output=True)
    made.key.chmod(0o600)

    with serving(tmp_path, made) as server:
        assert served(server) == serial(made)
        warnings = [line for line in server.child.output.splitlines() if "subjectAltName" in line]
        assert len(warnings) == 1
        assert "Go clients" in warnings[0]


def test_certificate_that_has_expired_is_served_with_a_warning(tmp_path: Path, authority: Authority) -> None:
    expired = expired_pair(tmp_path)
    with serving(tmp_path, expired) as server:
        assert "is not valid now" in server.child.output
        assert served(server) == serial(expired)


def expired_pair(folder: Path) -> Issued:
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    year = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(year)
        .not_valid_after(year + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pair = Issued(folder / "expired.crt", folder / "expired.key")
    pair.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pair.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pair


def test_client_that_leaves_in_the_handshake_is_no_error(server: Server, authority: Authority) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(b"\x16\x03\x01\x02\x00")
    with Wire(server.port, context=trusting(authority)) as wire:
        assert wire.request("GET", "/tell").status == 200

    assert "level=error" not in server.child.output
    assert "level=warning" not in server.child.output
    assert "Traceback" not in server.child.output
