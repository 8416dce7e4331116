"""Who is heard."""

from __future__ import annotations

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from dst.admin.guard import Asked, Refusal, check, check_content, host_is_allowed

GET = Asked(b"GET", b"v1/status", "127.0.0.1:7480")
POST = Asked(b"POST", b"v1/storages/vol/suspend", "127.0.0.1:7480")


class HostTests(SynchronousTestCase):
    """A name that could have been rebound is not ours."""

    def test_addresses(self) -> None:
        """Every address in digits is ours: it cannot be made to mean another machine."""
        for host in ("127.0.0.1", "127.0.0.1:7480", "[::1]", "[::1]:7480", "192.0.2.7:80", "LOCALHOST:7480"):
            self.assertTrue(host_is_allowed(host), host)

    def test_names(self) -> None:
        """A name is ours only if the configuration says so."""
        for host in ("evil.example", "evil.example:7480", "localhost.evil.example", "127.0.0.1.evil.example", "nas"):
            self.assertFalse(host_is_allowed(host), host)
        self.assertTrue(host_is_allowed("nas:7480", {"nas"}))

    def test_nonsense(self) -> None:
        """What is no host at all is not ours either."""
        for host in ("", ":", ":80", "[::1", "[]", "::1", "127.0.0.1:80:80", "127.0.0.1:x", "127.1", "[::1]x", "a@b"):
            self.assertFalse(host_is_allowed(host), host)


class CheckTests(SynchronousTestCase):
    """What is heard, and what a refusal says."""

    def refused(self, asked: Asked | Refusal | None, http_status: int) -> None:
        refusal = check(asked) if isinstance(asked, Asked) else asked
        assert refusal is not None
        self.assertEqual(http_status, refusal.http_status)
        self.assertNotEqual("", refusal.correction)

    def test_clients(self) -> None:
        """A client that is no browser is heard."""
        self.assertIsNone(check(GET))
        self.assertIsNone(check(POST))

    def test_own_page(self) -> None:
        """So is our own page."""
        own = {"origin": "http://127.0.0.1:7480", "fetch_site": "same-origin", "fetch_mode": "cors"}
        self.assertIsNone(check(evolve(POST, **own)))
        self.assertIsNone(check(evolve(GET, **own)))

    def test_other_pages(self) -> None:
        """A page of another origin is not: another host, another port, or one that hides what it is."""
        for origin in ("https://evil.example", "http://127.0.0.1:8000", "null", "http://127.0.0.1", ""):
            self.refused(evolve(POST, origin=origin), 403)
            self.refused(evolve(GET, origin=origin), 403)

    def test_fetch_metadata(self) -> None:
        """Nor is one that names no origin, where the browser says that it is another site."""
        self.refused(evolve(POST, fetch_site="cross-site", fetch_mode="navigate"), 403)
        self.refused(evolve(GET, fetch_site="cross-site", fetch_mode="no-cors"), 403)
        self.refused(evolve(GET, fetch_site="same-site", fetch_mode="no-cors"), 403)

    def test_link(self) -> None:
        """A link from elsewhere to our page may be followed."""
        self.assertIsNone(check(evolve(GET, fetch_site="cross-site", fetch_mode="navigate")))

    def test_forms(self) -> None:
        """What a form can send without asking us first is not an operation."""
        for kind in (None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            self.refused(check_content(kind), 415)
        for kind in ("application/json", "Application/JSON; charset=utf-8"):
            self.assertIsNone(check_content(kind))

    def test_methods(self) -> None:
        """Methods that mean nothing here are refused, whatever bytes they are."""
        for method in (b"TRACE", b"CONNECT", b"PROPFIND", b"get", b"\xff\xfe"):
            self.refused(evolve(GET, method=method), 405)

    def test_rebound(self) -> None:
        """A request for another host is refused before anything else is looked at."""
        self.refused(evolve(GET, host="evil.example:7480"), 403)

    def test_path(self) -> None:
        """A path that is no text is refused."""
        self.refused(evolve(GET, path=b"v1/\xff"), 400)
