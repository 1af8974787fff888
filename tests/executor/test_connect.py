"""Opening a session to `[relay]` over TLS with a login: nothing secret in the clear, errors that help."""

from __future__ import annotations

import asyncio
import base64
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import uvloop

from resend.config import DnsConfig, RelayConfig
from resend.errors import ConnectError
from resend.executor.connect import Hosts, LoginRefused, Refused, SmtpConnector
from resend.executor.transaction import End, Ended, Mail, transact
from resend.policy.routes import Route
from tests.support.nameserver import BROKEN, nameserver

Tls = Literal["starttls", "implicit", "none"]
Main = Coroutine[Any, Any, End]
LOOPS = [pytest.param(asyncio.run, id="asyncio"), pytest.param(uvloop.run, id="uvloop")]
BODY = b"Subject: x\r\n\r\n.dot\r\n" + b"z" * 60 + b"\r\n"
MAIL = Mail(envelope_from="s@example.jp", rcpt="r@example.net", body=BODY)
SECRET = "p@ss w\u00f6rd"
pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")


@dataclass
class Submission:
    """A submission server of a few lines; it keeps what it heard, and whether that was under TLS."""

    context: ssl.SSLContext
    tls: Tls
    offers: tuple[str, ...] = ("STARTTLS", "AUTH PLAIN LOGIN", "8BITMIME")
    heard: list[tuple[bool, str]] = field(default_factory=list)
    body: bytes = b""
    port: int = 0
    refusal: bytes = b"535 5.7.8 bad credentials"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        secure = self.tls == "implicit"
        try:
            writer.write(b"220 relay ESMTP\r\n")
            while line := await reader.readline():
                text = line.decode("latin-1").strip()
                self.heard.append((secure, text))
                verb = text.split(" ")[0].upper()
                if verb == "EHLO":
                    words = ["relay", *(word for word in self.offers if not (secure and word == "STARTTLS"))]
                    lines = [f"250{'-' if n < len(words) else ' '}{word}\r\n" for n, word in enumerate(words, 1)]
                    writer.write("".join(lines).encode())
                elif verb == "STARTTLS":
                    writer.write(b"220 go\r\n")
                    await writer.start_tls(self.context)
                    secure = True
                elif verb == "AUTH":
                    said = base64.b64decode(text.split(" ")[2]).decode("utf-8")
                    good = said == f"\0news\0{SECRET}"
                    writer.write(b"235 2.7.0 ok\r\n" if good else self.refusal + b"\r\n")
                elif verb == "DATA":
                    writer.write(b"354 go\r\n")
                    self.body = await reader.readuntil(b"\r\n.\r\n")
                    writer.write(b"250 2.0.0 Ok: queued as 4ABC\r\n")
                else:
                    writer.write(b"250 2.0.0 ok\r\n")
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client went, or the loop ends
        finally:
            writer.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    files = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(folder / "key"), "-out", str(folder / "cert")]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    return folder


@dataclass
class Given:
    """How the relay is set up and reached."""

    folder: Path
    tls: Tls = "starttls"
    user: str = "news"
    server: Submission = field(init=False)

    def __post_init__(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "cert", self.folder / "key")
        self.server = Submission(context, self.tls)

    async def send(self) -> End:
        implicit = self.server.context if self.tls == "implicit" else None
        listening = await asyncio.start_server(self.server.serve, "127.0.0.1", 0, ssl=implicit)
        port = listening.sockets[0].getsockname()[1]
        try:
            route = Route("localhost", port, True, f"relay:localhost:{port}", submission=True)
            relay = RelayConfig(host="localhost", port=port, tls=self.tls, user=self.user, password_env="TEST_PASSWORD")
            session = await SmtpConnector(relay, "client.example.jp").open(route, "example.net")
            end = await asyncio.wait_for(transact(session, MAIL, armed), 10)
            await session.quit()
            return end
        finally:
            listening.close()

    def verbs(self, *, secure: bool) -> list[str]:
        return [text.split(" ")[0].upper() for was, text in self.server.heard if was is secure]


async def armed() -> str:
    return ""


@pytest.fixture(autouse=True)
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert"))
    monkeypatch.setenv("TEST_PASSWORD", SECRET)


@pytest.mark.parametrize("run", LOOPS)
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_login_and_mail_travel_under_tls_only(certificate: Path, tls: Tls, run: Callable[[Main], End]) -> None:
    given = Given(certificate, tls)
    end = run(given.send())
    assert end.how is Ended.ACCEPTED
    assert given.verbs(secure=False) == (["EHLO", "STARTTLS"] if tls == "starttls" else [])
    assert given.verbs(secure=True)[:6] == ["EHLO", "AUTH", "MAIL", "RCPT", "DATA", "QUIT"]
    assert given.server.body == BODY.replace(b"\r\n.dot", b"\r\n..dot") + b".\r\n"


@pytest.mark.parametrize("run", LOOPS)
def test_a_big_body_leaves_whole_under_tls(
    certificate: Path, run: Callable[[Main], End], monkeypatch: pytest.MonkeyPatch
) -> None:
    big = b"Subject: x\r\n\r\n" + (b"y" * 70 + b"\r\n") * 800
    monkeypatch.setitem(globals(), "MAIL", Mail(envelope_from="s@example.jp", rcpt="r@example.net", body=big))
    given = Given(certificate)
    assert run(given.send()).how is Ended.ACCEPTED
    assert given.server.body == big + b".\r\n"


def test_without_a_user_nobody_logs_in(certificate: Path) -> None:
    given = Given(certificate, "none", user="")
    assert asyncio.run(given.send()).how is Ended.ACCEPTED
    assert given.verbs(secure=False)[:4] == ["EHLO", "MAIL", "RCPT", "DATA"]


@pytest.mark.parametrize("run", LOOPS)
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_a_certificate_that_nobody_vouches_for_ends_it_before_the_login(
    certificate: Path, tls: Tls, run: Callable[[Main], End], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    given = Given(certificate, tls)
    with pytest.raises(ConnectError, match="TLS"):
        run(given.send())
    assert not {"AUTH", "MAIL"} & {*given.verbs(secure=True), *given.verbs(secure=False)}


def test_a_relay_that_offers_no_starttls_is_never_used_in_the_clear(certificate: Path) -> None:
    given = Given(certificate)
    given.server.offers = ("AUTH PLAIN LOGIN",)
    with pytest.raises(ConnectError) as caught:
        asyncio.run(given.send())
    assert "tls" in caught.value.line().lower()
    assert not {"AUTH", "MAIL"} & set(given.verbs(secure=False))


def test_a_login_that_is_refused_says_where_to_look(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_PASSWORD", "wrong")
    with pytest.raises(ConnectError, match="refuses the login") as caught:
        asyncio.run(Given(certificate).send())
    assert "password_env" in caught.value.next_step and "wrong" not in caught.value.line()


def test_a_password_that_is_not_there_is_said_before_anything_is_tried(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEST_PASSWORD")
    given = Given(certificate)
    with pytest.raises(ConnectError, match="TEST_PASSWORD"):
        asyncio.run(given.send())
    assert given.server.heard == []


def test_a_host_that_is_not_there_is_a_failure_to_connect(certificate: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    route = Route("127.0.0.1", port, True, "relay", submission=True)
    with pytest.raises(OSError, match=str(port)):
        asyncio.run(SmtpConnector(RelayConfig(tls="none")).open(route, "example.net"))


async def asked(greetings: list[bytes], ehlo: bytes = b"250 x") -> tuple[frozenset[str], list[bytes]]:
    """Open a session to a domain with as many MX hosts as greetings; the extensions, and all lines that were heard."""
    heard: list[bytes] = []
    servers = []
    for greeting in greetings:

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, said: bytes = greeting) -> None:
            writer.write(said + b"\r\n")
            while line := await reader.readline():
                heard.append(line.strip())
                writer.write((ehlo if line[:4] == b"EHLO" else b"250 x") + b"\r\n")
            writer.close()

        servers.append(await asyncio.start_server(serve, "127.0.1.32", 0))
    connector = SmtpConnector(RelayConfig(), "client.example.jp")
    connector._mx_known["example.net"] = (float("inf"), tuple(one.sockets[0].getsockname() for one in servers))
    try:
        session = await connector.open(None, "example.net")
        session.abort()
        return session.extensions, heard
    finally:
        for server in servers:
            server.close()


@pytest.mark.parametrize("code", [b"500", b"502"])
def test_a_receiver_that_does_not_know_ehlo_gets_helo(code: bytes) -> None:
    extensions, heard = asyncio.run(asked([b"220 old"], ehlo=code + b" what?"))
    assert not extensions and heard == [b"EHLO client.example.jp", b"HELO client.example.jp"]


def test_where_one_mx_says_no_the_next_is_asked() -> None:
    _, heard = asyncio.run(asked([b"421 4.3.2 busy", b"554 5.3.2 not me", b"220 here"]))
    assert heard == [b"EHLO client.example.jp"]


def test_where_every_mx_says_no_the_last_word_counts() -> None:
    with pytest.raises(Refused) as caught:
        asyncio.run(asked([b"554 5.3.2 not me", b"421 4.3.2 busy"]))
    assert caught.value.reply.code == 421


@pytest.mark.parametrize(("reply", "error"), [(b"454 4.7.0 later", Refused), (b"535 5.7.8 no", LoginRefused)])
def test_a_login_that_fails_for_now_is_a_reply_to_judge(
    certificate: Path, reply: bytes, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = Given(certificate)
    monkeypatch.setattr(given.server, "refusal", reply)
    monkeypatch.setenv("TEST_PASSWORD", "wrong")
    with pytest.raises(error):
        asyncio.run(given.send())


def test_where_mail_goes_is_asked_of_the_name_servers_of_the_config() -> None:
    zone = {
        "two.example": ["20 far.two.example.", "10 near.two.example."],
        "bare.example": [],
        "null.example": ["0 ."],
        "broken.example": BROKEN,
    }
    with nameserver(zone) as dns:
        config = DnsConfig(nameservers=(dns.address,))

        async def hosts(domain: str) -> Hosts:
            return await SmtpConnector(RelayConfig(), dns=config).hosts(None, domain)

        assert asyncio.run(hosts("two.example")) == (("near.two.example", 25), ("far.two.example", 25))
        assert asyncio.run(hosts("bare.example")) == (("bare.example", 25),), "no MX: the domain itself"
        with pytest.raises(Refused) as caught:
            asyncio.run(hosts("null.example"))
        assert caught.value.reply.code == 556
        with pytest.raises(OSError, match=r"broken\.example"):
            asyncio.run(hosts("broken.example"))
