"""A DNS server on loopback that knows the records it is told, can keep silent, and counts what it is asked."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

SILENT, BROKEN, GARBAGE = "silent", "broken", "garbage"
# domain -> MX records ("10 mx.example.jp."), "NAME TYPE" -> its records; or one of the words above for all of a name
Zone = Mapping[str, Sequence[str] | str]


@dataclass
class NameServer:
    """`zone` may be changed while it runs; a domain that is not in it does not exist."""

    zone: Zone
    address: str = ""
    asked: Counter[str] = field(default_factory=Counter)


@contextmanager
def nameserver(zone: Zone) -> Iterator[NameServer]:
    """Answers over UDP and, where an answer is too long for that, over TCP, until the block ends."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
        tcp.bind(("127.0.0.1", 0))
        udp.bind(tcp.getsockname())  # connections take ports of TCP all the time, hardly anything those of UDP
        tcp.listen(16)
        server = NameServer(zone, "{}:{}".format(*udp.getsockname()))
        threads = [
            threading.Thread(target=work, args=(server, sock)) for work, sock in ((_datagrams, udp), (_streams, tcp))
        ]
        for thread in threads:
            thread.start()
        try:
            yield server
        finally:
            udp.sendto(b"", udp.getsockname())
            tcp.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


def _datagrams(server: NameServer, sock: socket.socket) -> None:
    while True:
        question, peer = sock.recvfrom(4096)
        if not question:
            return
        reply = _reply(server, question)
        if reply is not None and len(reply) > 512:
            short = dns.message.make_response(dns.message.from_wire(question))
            short.flags |= dns.flags.TC
            reply = short.to_wire()
        if reply is not None:
            sock.sendto(reply, peer)


def _streams(server: NameServer, sock: socket.socket) -> None:
    while True:
        try:
            peer, _ = sock.accept()
        except OSError:  # shut down
            return
        with peer:
            size = int.from_bytes(peer.recv(2, socket.MSG_WAITALL), "big")
            reply = _reply(server, peer.recv(size, socket.MSG_WAITALL))
            if reply is not None:
                peer.sendall(len(reply).to_bytes(2, "big") + reply)


def _reply(server: NameServer, raw: bytes) -> bytes | None:
    try:
        question = dns.message.from_wire(raw)
    except dns.exception.DNSException:
        return None
    name = question.question[0].name
    domain = name.to_text(omit_final_dot=True).lower()
    server.asked[domain] += 1
    kind = dns.rdatatype.to_text(question.question[0].rdtype)
    records = server.zone.get(domain)
    if records is None:
        known = any(text.startswith(f"{domain} ") for text in server.zone)
        records = server.zone.get(f"{domain} {kind}", () if known else None)
    elif not isinstance(records, str) and kind != "MX":
        records = ()
    reply = dns.message.make_response(question)
    reply.flags |= dns.flags.RA
    match records:
        case "silent":
            return None
        case "garbage":
            return raw[:2] + b"\x81\x80" + b"\xff" * 40
        case "broken":
            reply.set_rcode(dns.rcode.SERVFAIL)
        case None:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        case _ if records:
            reply.answer.append(dns.rrset.from_text(name, 300, "IN", kind, *records))
    return reply.to_wire()
