"""A webhook that a tenant chose reaches public addresses alone, over TLS, and not for long."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError
from urllib.request import build_opener

import pytest

from router.errors import InvalidInput
from router.webhooks import checked_url, is_public, origin
from tests.kit.certificates import Authority, write
from tests.kit.watching import receiver
from training.watch.public_http import handlers
from training.watch.webhook import LONGEST_PAUSE, Webhook

NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
        *("0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fd00::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::", "ff02::1"),
    ],
)
def test_no_private_address_is_public_however_it_is_written(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8"])
def test_a_public_address_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://hooks.example.org/hush",
            "ftp://hooks.example.org/hush",
            "hooks.example.org/hush",
        ),
        *("https:///hush", "https://me:hush@example.org/", "https://example.org:99999/hush"),
        *("https://example.org/hush hush", "https://example.org/hüsh", "https://127.0.0.1/hush"),
        *("http://127.0.0.1/hush", "https://localhost/hush", "https://[::1]/hush"),
        *("https://169.254.169.254/hush", "https://10.0.0.8/hush", f"https://a.org/{'hush' * 600}"),
    ],
)
def test_what_a_tenant_may_not_be_told_at_is_refused_without_its_path(url: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        checked_url(url)
    assert refused.value.field == "url"
    assert "hush" not in refused.value.message


def test_private_addresses_need_the_installations_permission() -> None:
    for url in ("http://127.0.0.1:8080/told", "http://localhost/told", "https://10.0.0.8/told"):
        assert checked_url(url, private=True) == url
        with pytest.raises(InvalidInput, match="LEADLINE_WEBHOOK_PRIVATE=true"):
            checked_url(url)
    with pytest.raises(InvalidInput, match="not https"):
        checked_url("http://10.0.0.8/told", private=True)
    assert checked_url("https://hooks.example.org/told") == "https://hooks.example.org/told"


def test_an_origin_has_neither_path_nor_query() -> None:
    assert (
        origin("https://Hooks.example.org:8443/hush?token=hush") == "https://hooks.example.org:8443"
    )
    assert origin("https://[2606:4700::1]/hush") == "https://[2606:4700::1]"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1"])
def test_a_name_that_leads_to_a_private_address_is_told_nothing(host: str) -> None:
    with receiver() as told:
        url = told.url.replace("127.0.0.1", host)
        said = Webhook(url, "secret", public=True).tell({"id": "e"}, NOW)
        assert (said.taken, said.failure) == (False, "PrivateAddress")
        assert told.posts == []


def test_neither_a_proxy_nor_a_redirect_leads_around(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        said = Webhook("http://localhost:1/told", "secret", public=True).tell({"id": "e"}, NOW)
        assert said.failure == "PrivateAddress"
        assert proxy.posts == []


def test_pauses_double_up_to_a_minute_and_end_with_what_arrives() -> None:
    with receiver(*[(503, "")] * 8) as told:
        webhook, now, paused = Webhook(told.url, "secret"), NOW, []
        while not webhook.tell({"id": "e"}, now).taken:
            assert webhook.tell({"id": "e"}, now).failure is None
            paused.append(webhook.pause_s)
            now += timedelta(seconds=webhook.pause_s)
    assert paused == [1, 2, 4, 8, 16, 32, 60, LONGEST_PAUSE.total_seconds()]
    assert told.ids == ["e"] * 9


@pytest.mark.parametrize("url", ["https://a..b/", f"https://{'a' * 70}.example.org/"])
def test_a_name_that_is_none_fails_like_any_other(url: str) -> None:
    assert Webhook(url, "secret", public=True).tell({"id": "e"}, NOW).failure


def test_certificates_are_checked_for_the_name_that_was_asked(tmp_path: Path) -> None:
    authority = Authority()
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(*write(authority.server(), tmp_path))
    trusting = ssl.create_default_context(cadata=authority.certificate.decode())
    with receiver(context=served) as told:
        opener = build_opener(*handlers(lambda _: True, trusting))
        with opener.open(told.url, b'{"id": 1}', timeout=5.0) as reply:
            assert reply.status == 204
        wrong = build_opener(*handlers(lambda _: True))
        with pytest.raises(URLError, match="CERTIFICATE_VERIFY_FAILED"):
            wrong.open(told.url, b"{}", timeout=5.0)
        assert len(told.posts) == 1


@contextmanager
def dripping() -> Iterator[str]:
    """A server that answers a byte at a time and never ends."""
    stop = threading.Event()

    def drip() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                while not stop.wait(0.05):
                    connection.sendall(b"H")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        stop.set()
        thread.join()


def test_who_answers_a_byte_at_a_time_is_cut_off() -> None:
    with dripping() as url:
        started = time.monotonic()
        with pytest.raises((OSError, HTTPException)):
            build_opener(*handlers(lambda _: True)).open(url, b"{}", timeout=0.5)
        assert 0.4 < time.monotonic() - started < 10.0
