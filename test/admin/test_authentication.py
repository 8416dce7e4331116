"""Who may ask for what: L{dst.admin.authentication}, through the whole site."""

from __future__ import annotations

import json
import os
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dst.admin import authentication
from dst.admin.authentication import FAILURES_MAX, FAILURES_S, Doorkeeper, LocalUsers, token_path
from dst.admin.feed import CHECK_S, POLL_S
from dst.admin.routes.table import ROUTES
from dst.admin.routes.wanting import HIDDEN
from dst.admin.site import (
    CLOSE_S_MAX,
    CONNECTIONS_MAX,
    CONNECTIONS_PER_ADDRESS_MAX,
    TURNED_AWAY_MAX,
    AdminChannel,
    make_site,
)
from dst.admin.tokens import TokenStore
from dst.identity import Identity, Role
from dst.security.tls import behind_tls
from dst.testing.fake_admin import FakeAdmin
from dst.transport.peers import PLACES_MAX
from test.admin.test_rest import HOST, JSON, Browser, RestCase
from test.security.machines import Machines, World

LOOPBACK = IPv4Address("TCP", "127.0.0.1", 40000)
ELSEWHERE = IPv4Address("TCP", "192.0.2.7", 40000)


class _From(Browser):
    """A connection from somewhere."""

    def __init__(self, site: Any, address: Any) -> None:
        self.transport = StringTransport(peerAddress=address)
        self.channel = site.buildProtocol(address)
        self.aborted = False
        self.transport.abortConnection = self._abort  # type: ignore[method-assign]
        self.channel.makeConnection(self.transport)


class GateCase(RestCase):
    """A site with a gate."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.fake = FakeAdmin()
        directory = self.mktemp()
        os.mkdir(directory)
        self.store = TokenStore(token_path(directory), self.clock.seconds)
        self.users = LocalUsers(("alice", "@storage"), own=4711)
        gate = Doorkeeper(self.store, self.users, self.clock.seconds)
        self.site = make_site(self.fake, clock=self.clock, now=lambda: 1234.5, gate=gate)

    def asked(
        self,
        address: Any = LOOPBACK,
        token: str | None = None,
        what: bytes = b"GET /v1/status",
        headers: bytes = b"",
        body: bytes = b"",
    ) -> tuple[int, dict[str, str], bytes]:
        """One request from somewhere."""
        if token is not None:
            headers += b"Authorization: Bearer " + token.encode() + b"\r\n"
        if body:
            headers += JSON + b"Content-Length: %d\r\n" % len(body)
        browser = _From(self.site, address)
        answer = browser.send(what + b" HTTP/1.1\r\n" + HOST + headers + b"\r\n" + body)
        if isinstance(browser.channel, AdminChannel):
            browser.gone()
        head, _, content = answer.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        found = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        return int(first.split()[1]), found, content


class PlaceTests(GateCase):
    """Who is somebody because of where they are."""

    def test_tokens_that_cannot_be_looked_for(self) -> None:
        """Where it cannot be told whether there are tokens, nobody is let in without one."""
        self.assertEqual(200, self.asked()[0])
        where = os.path.dirname(self.store.path)
        os.symlink(os.path.basename(where), where)  # leads to itself
        self.assertEqual(401, self.asked()[0])

    def test_loopback_without_tokens(self) -> None:
        """On this machine everything is allowed as long as there are no tokens."""
        for address in (LOOPBACK, IPv6Address("TCP", "::1", 1), IPv6Address("TCP", "::ffff:127.0.0.1", 1)):
            self.assertEqual(200, self.asked(address)[0])
            code, _, content = self.asked(
                address, what=b"POST /v1/storages/vol/initialise", body=b'{"discard": true}'
            )
            self.assertNotIn(code, (401, 403), content)

    def test_loopback_with_tokens(self) -> None:
        """From the first token on one is needed there, too, also when it has been revoked."""
        secret = self.store.create("eve", Role.VIEW)
        code, headers, content = self.asked()
        self.assertEqual((401, 'Bearer realm="DST daemon"'), (code, headers["www-authenticate"]))
        self.assertIn(b"dst token create", content)
        self.assertEqual(200, self.asked(token=secret)[0])
        self.store.revoke("eve")
        self.assertEqual((401, 401), (self.asked()[0], self.asked(token=secret)[0]))

    def test_elsewhere(self) -> None:
        """From another machine nothing is had without a token, whether there are any or not."""
        self.assertEqual(401, self.asked(ELSEWHERE)[0])
        secret = self.store.create("eve", Role.VIEW)
        self.assertEqual((401, 200), (self.asked(ELSEWHERE)[0], self.asked(ELSEWHERE, secret)[0]))

    def test_nothing_disclosed(self) -> None:
        """What needs no role has nothing in it, and every other address is refused, whatever its method."""
        public = {route.path for route in ROUTES if route.role is None}
        self.assertLessEqual(public, {"/", "/{file}", "/healthz", "/v1/version", "/v1/openapi.json"})
        for route in ROUTES:
            if route.role is None:
                continue
            path = route.path.format(name="vol", node="a", id="x", storage="vol", kind="nodes", operation="grow")
            what = f"{route.method} {path}".encode()
            code, _, content = self.asked(ELSEWHERE, what=what, body=b"" if route.method == "GET" else b"{}")
            self.assertEqual(401, code, (what, content))
            self.assertNotIn(b"vol", content)

    def test_local_users(self) -> None:
        """Over a UNIX socket root and the daemon's user may do everything, operators operate, others nothing."""
        identity = Identity(user_id=0)
        self.patch(authentication, "identity_at", lambda transport: identity)
        roles = {1: Role.OPERATE, 2: None}
        self.patch(LocalUsers, "role_of", lambda users, user: roles.get(user, Role.ADMIN))
        self.store.create("eve", Role.VIEW)
        grow, initialise = b"POST /v1/storages/vol/grow", b"POST /v1/storages/vol/initialise"
        for identity, codes in (
            (Identity(user_id=0), (200, 409, 409)),  # they are heard, and the fake cannot
            (Identity(user_id=1), (200, 409, 403)),
            (Identity(user_id=2), (401, 401, 401)),
        ):
            found = (
                self.asked(UNIXAddress(None))[0],
                self.asked(UNIXAddress(None), what=grow, body=b"{}")[0],
                self.asked(UNIXAddress(None), what=initialise, body=b'{"discard": true}')[0],
            )
            self.assertEqual(codes, found, identity)

    def test_roles_of_users(self) -> None:
        """Root and the daemon's own user are told by number, the others by name and group."""
        self.assertEqual(Role.ADMIN, self.users.role_of(0))
        self.assertEqual(Role.ADMIN, self.users.role_of(4711))
        self.assertIs(None, self.users.role_of(4_000_000_000))
        import grp
        import pwd

        user = next(each for each in pwd.getpwall() if each.pw_uid not in (0, 4711))
        group = grp.getgrgid(user.pw_gid).gr_name
        self.assertIs(None, self.users.role_of(user.pw_uid))
        self.assertEqual(Role.OPERATE, LocalUsers((user.pw_name,), 4711).role_of(user.pw_uid))
        self.assertEqual(Role.OPERATE, LocalUsers((f"@{group}",), 4711).role_of(user.pw_uid))
        self.assertIs(None, LocalUsers(("@no-such-group", f"@{user.pw_name}x"), 4711).role_of(user.pw_uid))


class RoleTests(GateCase):
    """What a token may do."""

    def test_roles(self) -> None:
        """Each role may do what it says, and is told which one it takes for more."""
        tokens = {role: self.store.create(role.value, role) for role in Role}
        asked = (
            (b"GET /v1/status", b"", Role.VIEW),
            (b"POST /v1/storages/vol/suspend", b'{"node": "a"}', Role.OPERATE),
            (b"POST /v1/storages/vol/mark-clean", b'{"node": "a"}', Role.ADMIN),
            (b"DELETE /v1/configuration/nodes/a", b"{}", Role.ADMIN),
        )
        order = list(Role)
        for what, body, needed in asked:
            for role in Role:
                code, _, content = self.asked(ELSEWHERE, tokens[role], what, body=body)
                if order.index(role) < order.index(needed):
                    self.assertEqual(403, code, (what, role))
                    self.assertIn(f"takes the role '{needed.value}'".encode(), content)
                else:
                    self.assertNotIn(code, (401, 403), (what, role, content))

    def test_logged(self) -> None:
        """Who was refused is in the log, and no token is."""
        secret = self.store.create("viewer", Role.VIEW)
        with capturedLogs() as events:
            self.asked(ELSEWHERE, secret, b"POST /v1/storages/vol/grow", body=b"{}")
            self.asked(ELSEWHERE, "dst_" + "x" * 43)
            self.asked(ELSEWHERE)
        said = " | ".join(str(formatEvent(event)) for event in events)
        self.assertIn("token viewer at 192.0.2.7 may not POST /v1/storages/{name}/grow", said)
        self.assertIn("192.0.2.7 was refused: the token is unknown here", said)
        self.assertNotIn(secret[:10], said)
        self.assertNotIn("x" * 43, said)

    def test_who_asked(self) -> None:
        """What was done is noted with who has asked for it."""
        secret = self.store.create("eve", Role.OPERATE)
        self.asked(ELSEWHERE, secret, b"POST /v1/storages/vol/suspend", body=b'{"node": "a"}')
        operations = self.successResultOf(self.fake.operations())
        self.assertIn("token eve", [operation.asked_by for operation in operations])


class WrongTokenTests(GateCase):
    """Those who try."""

    def test_wrong(self) -> None:
        """Whatever is no token is refused, and never taken for somebody who has said nothing."""
        self.store.create("eve", Role.ADMIN)
        for value in (b"Bearer", b"Bearer ", b"Basic ZXZlOmV2ZQ==", b"Bearer " + b"x" * 2000, b"dst_x", b"\xff"):
            self.clock.advance(FAILURES_S)
            self.assertEqual(401, self.asked(headers=b"Authorization: " + value + b"\r\n")[0], value)
        twice = b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n"
        self.assertEqual(401, self.asked(headers=twice)[0])

    def test_wrong_on_loopback_without_tokens(self) -> None:
        """A wrong token is wrong also where none is needed: whoever sends one means to be somebody."""
        self.assertEqual((200, 401), (self.asked()[0], self.asked(token="dst_nonsense")[0]))

    def test_ended(self) -> None:
        """A token whose time is over is refused with that reason."""
        secret = self.store.create("eve", Role.VIEW, 1)
        self.assertEqual(200, self.asked(token=secret)[0])
        self.clock.advance(86400)
        code, _, content = self.asked(token=secret)
        self.assertEqual(401, code)
        self.assertIn(b"the token eve has ended", content)

    def test_rate(self) -> None:
        """After some failures the address has to wait; a right token is heard, and other addresses are."""
        secret = self.store.create("eve", Role.VIEW)
        with capturedLogs() as events:
            codes = [self.asked(ELSEWHERE, f"dst_{number}")[0] for number in range(FAILURES_MAX + 20)]
        self.assertEqual([401] * FAILURES_MAX + [429] * 20, codes)
        said = [event for event in events if event["log_namespace"] == "dst.admin.authentication"]
        self.assertEqual(FAILURES_MAX + 1, len(said))
        _, headers, _ = self.asked(ELSEWHERE, "dst_x")
        self.assertTrue(0 < int(headers["retry-after"]) <= FAILURES_S)
        self.assertEqual(200, self.asked(ELSEWHERE, secret)[0])
        self.assertEqual(401, self.asked(LOOPBACK, "dst_x")[0])
        self.clock.advance(FAILURES_S + 1)
        self.assertEqual(401, self.asked(ELSEWHERE, "dst_x")[0])

    def test_many_addresses(self) -> None:
        """Somebody with many addresses does not fill the memory."""
        for number in range(PLACES_MAX + 50):
            address = IPv4Address("TCP", f"198.18.{number // 250}.{number % 250}", 1)
            self.asked(address, "dst_x")
        gate: Any = self.site.resource._gate
        self.assertLessEqual(len(gate._failures._times), PLACES_MAX)

    def test_file_that_cannot_be_used(self) -> None:
        """Tokens that cannot be checked let nobody in."""
        secret = self.store.create("eve", Role.ADMIN)
        os.chmod(self.store.path, 0o644)
        with capturedLogs() as events:
            self.assertEqual((401, 401), (self.asked(token=secret)[0], self.asked()[0]))
        self.assertIn("is open to others", " ".join(str(formatEvent(event)) for event in events))


class CrowdTests(GateCase):
    """Many connections of one address."""

    def test_places(self) -> None:
        """One address has so many places; others, and this machine, are served; who goes makes room."""
        open_ones = [self.site.buildProtocol(ELSEWHERE) for _ in range(CONNECTIONS_PER_ADDRESS_MAX)]
        for channel in open_ones:
            channel.makeConnection(StringTransport(peerAddress=ELSEWHERE))
        self.assertNotIsInstance(self.site.buildProtocol(ELSEWHERE), AdminChannel)  # it is told to come later
        self.assertEqual(401, self.asked(IPv4Address("TCP", "192.0.2.8", 1))[0])
        self.assertEqual(200, self.asked(LOOPBACK)[0])
        open_ones[0].connectionLost(Failure(ConnectionLost()))
        self.assertEqual(401, self.asked(ELSEWHERE)[0])


class LongAnswerTests(GateCase):
    """Who is told something for as long as they like, and may not any more."""

    def stream(self, token: str) -> _From:
        """Somebody who reads events."""
        browser = _From(self.site, ELSEWHERE)
        answer = browser.send(
            b"GET /v1/events HTTP/1.1\r\n" + HOST + b"Authorization: Bearer " + token.encode() + b"\r\n\r\n"
        )
        self.assertIn(b"text/event-stream", answer)
        return browser

    def test_revoked(self) -> None:
        """Who reads events with a token that is revoked, or ends, is cut off; others read on."""
        reading = self.stream(self.store.create("eve", Role.VIEW))
        ending = self.stream(self.store.create("old", Role.VIEW, days=(CHECK_S + 1) / 86400))
        other = self.stream(self.store.create("bob", Role.VIEW))
        self.clock.pump([POLL_S] * 12)
        self.assertEqual([False] * 3, [each.aborted for each in (reading, ending, other)])
        self.store.revoke("eve")
        self.clock.pump([POLL_S] * 12)
        self.assertEqual([True, True, False], [each.aborted for each in (reading, ending, other)])


class HiddenTests(GateCase):
    """What is in the configuration and not for everybody who may look at it."""

    def test_hooks(self) -> None:
        """Arguments of a hook's program, and what is behind the host of its URL, are for who may change them only."""
        hooks = [
            {"on": ["health"], "command": ["/usr/bin/page-me", "--key", "s3cret"]},
            {"url": "https://chat.example:8443/services/s3cret?t=s3cret"},
            {"command": ["/usr/bin/beep"]},
        ]
        self.fake.document = {**self.fake.document, "hooks": hooks}
        for role in (Role.VIEW, Role.OPERATE):
            _, _, content = self.asked(token=self.store.create(role.value, role), what=b"GET /v1/configuration")
            self.assertNotIn(b"s3cret", content)
            shown = json.loads(content)["document"]
            self.assertEqual(
                [
                    {"on": ["health"], "command": ["/usr/bin/page-me", HIDDEN]},
                    {"url": f"https://chat.example/{HIDDEN}"},
                    {"command": ["/usr/bin/beep"]},
                ],
                shown["hooks"],
            )
            self.assertEqual(self.fake.document["nodes"], shown["nodes"])
        _, _, content = self.asked(token=self.store.create("admin", Role.ADMIN), what=b"GET /v1/configuration")
        self.assertEqual(hooks, json.loads(content)["document"]["hooks"])

    def test_plan(self) -> None:
        """Who may not change the configuration does not have the daemon read documents either."""
        for role in Role:
            token = self.store.create(role.value, role)
            code, _, _ = self.asked(token=token, what=b"POST /v1/configuration/plan", body=b"{}")
            self.assertEqual(200 if role is Role.ADMIN else 403, code)


class NoRoomTests(SynchronousTestCase):
    """Clients for which there is no room."""

    def test_silent_behind_tls(self) -> None:
        """Who does not even begin with TLS is not waited for, however many there are."""
        clock = World()
        machines = Machines(self.mktemp())
        machines.add("alpha")
        security = machines.security("alpha", clock)
        site = make_site(FakeAdmin(), clock=clock)
        factory = behind_tls(security.server_options(certificate_demanded=False), site, clock)
        made: list[StringTransport] = []
        aborted: list[StringTransport] = []
        sent_away = 0
        for _ in range(CONNECTIONS_MAX + TURNED_AWAY_MAX + 10):
            protocol = factory.buildProtocol(LOOPBACK)
            if protocol is None:
                sent_away += 1
                continue
            transport = StringTransport(peerAddress=LOOPBACK)
            transport.setTcpNoDelay = lambda wanted: None  # type: ignore[attr-defined]
            transport.abortConnection = lambda transport=transport: aborted.append(transport)  # type: ignore[method-assign,misc]
            protocol.makeConnection(transport)
            made.append(transport)
        self.assertEqual((10, []), (sent_away, aborted))
        clock.advance(CLOSE_S_MAX)
        self.assertEqual(made[CONNECTIONS_MAX:], aborted)
        self.assertEqual(0, len(site.turned_away))
