# SPDX-License-Identifier: Apache-2.0
"""A MySQL client of sockets and struct only: it sends what no library would, and sees every packet that comes back."""
import hashlib
import socket
import struct

from harness import LIMIT

PACKET_MAX = 0xffffff
CONNECT_WITH_DB, LOCAL_FILES, SSL, MULTI_STATEMENTS, DEPRECATE_EOF = 1 << 3, 1 << 7, 1 << 11, 1 << 16, 1 << 24
# LONG_PASSWORD LONG_FLAG PROTOCOL_41 TRANSACTIONS SECURE_CONNECTION MULTI_RESULTS PS_MULTI_RESULTS PLUGIN_AUTH
CAPS = 1 | 4 | 1 << 9 | 1 << 13 | 1 << 15 | 1 << 17 | 1 << 18 | 1 << 19
MORE_RESULTS, IN_TRANS = 8, 1

QUIT, INIT_DB, QUERY, FIELD_LIST, STATISTICS, PING, CHANGE_USER = 1, 2, 3, 4, 9, 0x0e, 0x11
PREPARE, EXECUTE, LONG_DATA, CLOSE, RESET, SET_OPTION, FETCH = 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1c
RESET_CONNECTION = 0x1f


class Ended(Exception):
    """The proxy closed the connection."""


class Refused(Exception):
    """An ERR packet."""

    def __init__(self, payload):
        self.code = struct.unpack_from("<H", payload, 1)[0]
        at = 9 if payload[3:4] == b"#" else 3
        self.sqlstate, self.text = payload[4:at].decode(), payload[at:].decode("utf8", "replace")
        super().__init__(self.code, self.text)


def native(password, salt):
    if not password:
        return b""
    one = hashlib.sha1(password.encode()).digest()
    two = hashlib.sha1(salt + hashlib.sha1(one).digest()).digest()
    return bytes(a ^ b for a, b in zip(one, two))


def packets(payload, seq=0):
    """The bytes on the wire of a payload of any size."""
    out, at = [], 0
    while True:
        part = payload[at:at + PACKET_MAX]
        out.append(struct.pack("<I", len(part))[:3] + bytes([seq & 255]) + part)
        seq, at = seq + 1, at + len(part)
        if len(part) < PACKET_MAX:
            return b"".join(out)


def lenenc(data, at):
    """(number or None, offset after it)"""
    first = data[at]
    if first < 0xfb:
        return first, at + 1
    if first == 0xfb:
        return None, at + 1
    size = {0xfc: 2, 0xfd: 3, 0xfe: 8}[first]
    return int.from_bytes(data[at + 1:at + 1 + size], "little"), at + 1 + size


def put_lenenc(n):
    if n < 251:
        return bytes([n])
    return b"\xfc" + n.to_bytes(2, "little") if n < 1 << 16 else b"\xfe" + n.to_bytes(8, "little")


def text_row(payload):
    row, at = [], 0
    while at < len(payload):
        size, at = lenenc(payload, at)
        row.append(None if size is None else payload[at:at + size])
        at += size or 0
    return tuple(row)


class Answer:
    """One result: an OK (columns == 0) or rows as raw payloads."""

    def __init__(self):
        self.columns, self.names, self.packets = 0, [], []
        self.status, self.warnings, self.affected, self.insert_id = 0, 0, 0, 0

    @property
    def rows(self):
        return [text_row(p) for p in self.packets]

    @property
    def value(self):
        return self.rows[0][0].decode()


class Wire:
    def __init__(self, port=None, sock=None, user="app", password=None, db="app", caps=0, login=True, charset=45):
        self.seq, self.caps = 0, CAPS | caps | (CONNECT_WITH_DB if db else 0)
        if sock:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(sock)
        else:
            self.socket = socket.create_connection(("127.0.0.1", port))
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(LIMIT)
        self.stream = self.socket.makefile("rb", 65536)
        if login:
            self.login(user, password, db, charset)

    # --- packets ---

    def exactly(self, n):
        try:
            data = self.stream.read(n)
        except ConnectionError:
            data = b""
        if len(data) < n:
            raise Ended()
        return data

    def read(self):
        """One payload, put together from as many packets as it has; their sequence numbers must go on."""
        whole = b""
        while True:
            head = self.exactly(4)
            size = int.from_bytes(head[:3], "little")
            assert head[3] == self.seq & 255, "sequence %d, expected %d" % (head[3], self.seq & 255)
            self.seq += 1
            part = self.exactly(size)
            whole = whole + part if whole else part
            if size < PACKET_MAX:
                return whole

    def send(self, payload, seq=0):
        data = packets(payload, seq)
        self.seq = seq + (len(payload) // PACKET_MAX) + 1
        self.raw(data)

    def raw(self, data):
        try:
            self.socket.sendall(data)
        except ConnectionError:
            raise Ended() from None

    def command(self, code, body=b""):
        self.send(bytes([code]) + (body.encode() if isinstance(body, str) else body))

    def ended(self):
        """True when nothing but an end comes."""
        try:
            return self.stream.read(1) == b""
        except ConnectionError:
            return True

    # --- login ---

    def greeting(self):
        payload = self.read()
        if payload[0] == 0xff:
            raise Refused(payload)
        end = payload.index(b"\0", 1)
        self.version, self.thread_id = payload[1:end].decode(), struct.unpack_from("<I", payload, end + 1)[0]
        self.salt = payload[end + 5:end + 13] + payload[end + 32:end + 44]
        low, high = struct.unpack_from("<H", payload, end + 14)[0], struct.unpack_from("<H", payload, end + 19)[0]
        self.offered = low | high << 16
        return payload

    def response(self, user, password, db, charset):
        answer = native("lab-" + user if password is None else password, self.salt)
        body = struct.pack("<IIB23x", self.caps, 1 << 30, charset) + user.encode() + b"\0"
        body += bytes([len(answer)]) + answer
        return body + (db.encode() + b"\0" if db else b"") + b"mysql_native_password\0"

    def login(self, user="app", password=None, db="app", charset=45):
        self.greeting()
        self.send(self.response(user, password, db, charset), 1)
        self.one()

    # --- answers ---

    def ok(self, payload, answer):
        answer.affected, at = lenenc(payload, 1)
        answer.insert_id, at = lenenc(payload, at)
        answer.status, answer.warnings = struct.unpack_from("<HH", payload, at)

    def eof(self, payload, answer):
        if self.caps & DEPRECATE_EOF:
            self.ok(payload, answer)
        else:
            assert len(payload) == 5, payload
            answer.warnings, answer.status = struct.unpack_from("<HH", payload, 1)

    def one(self):
        """The next result."""
        answer, head = Answer(), self.read()
        if head[0] == 0xff:
            raise Refused(head)
        if head[0] == 0:
            self.ok(head, answer)
            return answer
        if head[0] == 0xfe and len(head) < 9:
            self.eof(head, answer)
            return answer
        answer.columns = lenenc(head, 0)[0]
        for _ in range(answer.columns):
            column, at = self.read(), 0
            for _ in range(4):
                size, at = lenenc(column, at)
                at += size
            size, at = lenenc(column, at)
            answer.names.append(column[at:at + size].decode())
        if not self.caps & DEPRECATE_EOF:
            self.eof(self.read(), answer)
        while True:
            payload = self.read()
            if payload[:1] == b"\xff":
                raise Refused(payload)
            if payload[:1] == b"\xfe" and len(payload) < (PACKET_MAX if self.caps & DEPRECATE_EOF else 9):
                self.eof(payload, answer)
                return answer
            answer.packets.append(payload)

    def all(self):
        answers = [self.one()]
        while answers[-1].status & MORE_RESULTS:
            answers.append(self.one())
        return answers

    def query(self, sql):
        self.command(QUERY, sql)
        return self.all()[0]

    def value(self, sql):
        return self.query(sql).value

    def ask(self, code, body=b""):
        self.command(code, body)
        return self.all()[0]

    # --- prepared statements ---

    def prepare(self, sql):
        """(id, parameters, columns)"""
        self.command(PREPARE, sql)
        head = self.read()
        if head[0] == 0xff:
            raise Refused(head)
        number, columns, params = struct.unpack_from("<IHH", head, 1)
        for n in params, columns:
            for _ in range(n):
                self.read()
            if n and not self.caps & DEPRECATE_EOF:
                assert self.read()[0] == 0xfe
        return number, params, columns

    @staticmethod
    def bound(number, values, types=True, flags=0):
        """The body of an execute: values are ints (LONGLONG), strings (VAR_STRING), None, or ... for long data."""
        body = struct.pack("<IBI", number, flags, 1)
        if not values:
            return body
        nulls, kinds, data = bytearray((len(values) + 7) // 8), b"", b""
        for i, v in enumerate(values):
            if v is None:
                nulls[i // 8] |= 1 << i % 8
            kinds += b"\x08\0" if isinstance(v, int) else b"\xfd\0"
            if isinstance(v, int):
                data += struct.pack("<q", v)
            elif v is not None and v is not ...:
                v = v.encode() if isinstance(v, str) else v
                data += put_lenenc(len(v)) + v
        return body + bytes(nulls) + (b"\1" + kinds if types else b"\0") + data

    def execute(self, number, *values, **more):
        self.command(EXECUTE, self.bound(number, values, **more))
        return self.all()[0]

    def shut(self):
        self.stream.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.shut()
