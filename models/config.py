"""Settings: read once from the environment, checked, and refused with every reason at once.

``load_settings`` is the only reader of the environment; everything else is handed a ``Settings``.
The README's table of settings is tested against ``SETTING_NAMES``.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import re
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

SETTING_NAMES = (
    "DATABASE_URL",
    "AMQP_URL",
    "RABBITMQ_MANAGEMENT_URL",
    "PUBLIC_URL",
    "SECRET_KEY",
    "HOST",
    "PORT",
    "DEMO",
    "TESTING",
    "MINUTE_SECONDS",
    "GATEWAY",
    "STRIPE_SECRET_KEY",
    "STRIPE_WEBHOOK_SECRET",
    "STRIPE_API_BASE",
    "CURRENCY",
    "NEW_BUYER_DAYS",
    "NEW_BUYER_DAILY_MINOR",
    "COMMISSION_PERCENT",
    "CORS_ORIGINS",
    "TRUSTED_PROXIES",
    "ICE_SERVERS",
    "MEDIA_NODE_ID",
    "MEDIA_HOST",
    "MEDIA_PORT",
    "MEDIA_CAPACITY",
    "MEDIA_ADDRESSES",
    "MEDIA_UDP_PORT",
    "MEDIA_ANNOUNCED_ADDRESSES",
    "MEDIA_ENGINE",
    "TURN_URLS",
    "TURN_SECRET",
    "MEDIA_LAST_N",
    "METRICS_SEATS",
    "METRICS_TOKEN",
    "VAR_DIR",
    "RECEIPT_KEY_FILE",
    "CLEARING_DAYS",
    "RESERVE_PERCENT",
    "PAYOUT_MINIMUM_TOKENS",
    "PAYOUT_MINOR_PER_TOKEN",
    "PAYOUT_CURRENCY",
    "HLS_DIR",
    "TRANSCODE_ROOMS",
    "RECORDINGS_DIR",
    "RECORDING_DAYS",
    "RECORDINGS_FREE_MB",
    "TRANSCODE_WORKER_ID",
    "TRANSCODE_PRESET",
    "LOW_LATENCY_HLS",
    "SPECTATOR_SECONDS",
    "PLAYERS_SOCKET",
    "CDN_BASE_URL",
    "CDN_EDGE_CHECKS",
    "S3_ENDPOINT",
    "S3_BUCKET",
    "S3_REGION",
    "S3_ACCESS_KEY_ID",
    "S3_SECRET_ACCESS_KEY",
    "LOG_LEVEL",
)


# The node that `make run` starts; its management API is 1000 above.
PRIVATE_AMQP_URL = "amqp://guest:guest@127.0.0.1:5872/"
PRIVATE_MANAGEMENT_URL = "http://guest:guest@127.0.0.1:6872"

MEDIA_CAPACITY = 80
"""Participants of one media node, which is one core: 40 private calls, the dearest that there is (docs/scale.md
says what was measured, and how much that leaves)."""
STRIPE_API_BASE = "https://api.stripe.com"
LEAST_CLEARING_DAYS = 2
"""Complaints are open for 48 hours, and find what they are about still pending."""
PLAIN_CDN_SECONDS = 120
"""A CDN that checks nothing goes on serving whoever was barred until the address has expired."""
TRANSCODE_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium")
_TURN_URL = re.compile(r"turns?:[A-Za-z0-9.\-\[\]:]+(\?transport=(udp|tcp))?")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
CURRENCIES = ("USD", "EUR", "GBP", "CHF", "CAD", "AUD", "NZD", "SEK", "NOK", "DKK", "PLN", "CZK")
"""What tokens may be sold in: a hundred minor units to the major one, and a price in the same range."""


class SettingsError(Exception):
    """The environment does not describe a service that may start; the text names each reason."""


class IceServer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An ``RTCIceServer`` of the W3C WebRTC specification."""

    urls: list[str]
    username: str | None = None
    credential: str | None = None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that may differ between two installations."""

    database_url: str
    amqp_url: str
    rabbitmq_management_url: str
    """Where /admin sees what only RabbitMQ's management API knows; empty: it does without."""
    public_url: str
    secret_key: str
    host: str
    port: int
    demo: bool
    testing: bool
    minute_ms: int
    gateway: str
    stripe_secret_key: str
    stripe_webhook_secrets: tuple[str, ...]
    """Any of them signs a webhook, so that one can be exchanged for another without a gap."""
    stripe_api_base: str
    currency: str
    """ISO 4217; one whose minor unit is a hundredth."""
    new_buyer_days: int
    new_buyer_daily_minor: int
    """What a new buyer may spend in 24 hours, in the minor unit."""
    commission_percent: int
    cors_origins: tuple[str, ...]
    trusted_proxies: int
    """How many proxies in front may be believed about the client's address."""
    ice_servers: tuple[IceServer, ...]
    media_node_id: str
    media_host: str
    media_port: int
    media_capacity: int
    """For how many participants this media node is made; it is given no more rooms than that."""
    media_addresses: tuple[str, ...]
    """Addresses that the media node opens its UDP port on; empty: all of this host's."""
    media_udp_port: int
    """The one port that all media of a node passes through; 0: any free one."""
    media_announced_addresses: tuple[str, ...]
    """What clients are told in place of ``media_addresses``, by family: a node behind NAT."""
    media_engine: str
    """Who forwards: ``native``, if it was built, or ``python``."""
    turn_urls: tuple[str, ...]
    turn_secret: str
    """Shared with the TURN servers; clients are given credentials made with it, each for a while."""
    media_last_n: int
    """In rooms of many who publish: beside the creators', only the pictures of so many last speakers go to each
    participant. 0: all do."""
    metrics_seats: int
    """How many participants have series of their own in Prometheus; 0: none."""
    metrics_token: str
    """The bearer with which a media node's figures are read from another machine; empty: from this one alone."""
    var_dir: Path
    log_level: str
    receipt_key_file: Path | None
    """PEM with the Ed25519 key that signs receipts; None: derived from ``secret_key``."""
    clearing_days: int
    """How long earnings stay pending, in case a payment turns out bad or somebody complains: real days always."""
    reserve_percent: int
    """Of what was cleared in the last 90 days: kept back from payouts."""
    payout_minimum_tokens: int
    payout_minor_per_token: int
    """What a cleared token pays out, in minor units of ``payout_currency``."""
    payout_currency: str
    hls_dir: Path
    """Where broadcasts are written, and served from: a directory of its own."""
    transcode_rooms: int
    """How many rooms one transcode worker takes."""
    recordings_dir: Path
    """Where private streams are recorded that both sides agreed to, and served from to the two."""
    recording_days: int
    """How long a recording is kept."""
    recordings_free_mb: int
    """Nothing is recorded while less than this is free where recordings are written, in 10^6 bytes."""
    transcode_worker_id: str
    """The same through a worker's restarts, another for each worker of a host."""
    transcode_preset: str
    """x264's."""
    low_latency_hls: bool
    spectator_seconds: int
    """How long a spectator's signed address is good; pages renew theirs before."""
    players_socket: Path | None
    """Unix socket where a transcode worker hears from nginx who plays; None: none does."""
    cdn_base_url: str
    """Where a CDN serves ``/live`` from; empty: we do."""
    cdn_edge_checks: bool
    """The CDN checks signature and barred viewers as our nginx does; without, addresses must be short-lived."""
    s3_endpoint: str
    """Where the S3 API of the object storage answers; empty: broadcasts are on disk alone."""
    s3_bucket: str
    s3_region: str
    s3_access_key_id: str
    s3_secret_access_key: str

    @property
    def origin(self) -> str:
        """``PUBLIC_URL`` as an Origin header has it."""
        parts = urlsplit(self.public_url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def secure(self) -> bool:
        """Whether browsers reach us over HTTPS."""
        return self.public_url.startswith("https://")

    def key(self, purpose: str) -> bytes:
        """A key of its own for each purpose, derived from ``SECRET_KEY`` (one HMAC, RFC 5869's expand step)."""
        return hmac.new(self.secret_key.encode(), purpose.encode() + b"\x01", hashlib.sha256).digest()


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process; raises SettingsError that lists all that is wrong."""
    read = _Reader(os.environ if environ is None else environ)
    var_dir = Path(read.text("VAR_DIR", "var")).resolve()
    port = read.integer("PORT", 8080, 1, 65535)
    demo, testing = read.boolean("DEMO"), read.boolean("TESTING")
    settings = Settings(
        database_url=read.text("DATABASE_URL", f"sqlite:///{var_dir / 'greenroom.db'}"),
        amqp_url=read.text("AMQP_URL", PRIVATE_AMQP_URL),
        rabbitmq_management_url=read.text(
            "RABBITMQ_MANAGEMENT_URL", "" if read.text("AMQP_URL", "") else PRIVATE_MANAGEMENT_URL
        ),
        public_url=read.text("PUBLIC_URL", f"http://localhost:{port}").rstrip("/"),
        secret_key=read.text("SECRET_KEY", ""),
        host=read.text("HOST", "127.0.0.1"),
        port=port,
        demo=demo,
        testing=testing,
        minute_ms=read.integer("MINUTE_SECONDS", 60, 1, 60) * 1000,
        gateway=read.text("GATEWAY", "sandbox"),
        stripe_secret_key=read.text("STRIPE_SECRET_KEY", ""),
        stripe_webhook_secrets=read.words("STRIPE_WEBHOOK_SECRET"),
        stripe_api_base=read.text("STRIPE_API_BASE", STRIPE_API_BASE).rstrip("/"),
        currency=read.text("CURRENCY", "USD").upper(),
        new_buyer_days=read.integer("NEW_BUYER_DAYS", 7, 0, 365),
        new_buyer_daily_minor=read.integer("NEW_BUYER_DAILY_MINOR", 30_000, 0, 100_000_000),
        commission_percent=read.integer("COMMISSION_PERCENT", 20, 0, 100),
        cors_origins=read.words("CORS_ORIGINS"),
        trusted_proxies=read.integer("TRUSTED_PROXIES", 0, 0, 10),
        ice_servers=read.ice_servers(),
        media_node_id=read.text("MEDIA_NODE_ID", "media-1"),
        media_host=read.text("MEDIA_HOST", "127.0.0.1"),
        media_port=read.integer("MEDIA_PORT", 8090, 1, 65535),
        media_capacity=read.integer("MEDIA_CAPACITY", MEDIA_CAPACITY, 2, 1_000_000),
        media_addresses=read.words("MEDIA_ADDRESSES"),
        media_udp_port=read.integer("MEDIA_UDP_PORT", 50_000, 0, 65535),
        media_announced_addresses=read.words("MEDIA_ANNOUNCED_ADDRESSES"),
        media_engine=read.text("MEDIA_ENGINE", "native"),
        turn_urls=read.words("TURN_URLS"),
        turn_secret=read.text("TURN_SECRET", ""),
        media_last_n=read.integer("MEDIA_LAST_N", 0, 0, 20),
        metrics_seats=read.integer("METRICS_SEATS", 100, 0, 1000),
        metrics_token=read.text("METRICS_TOKEN", ""),
        var_dir=var_dir,
        log_level=read.text("LOG_LEVEL", "INFO").upper(),
        receipt_key_file=read.file("RECEIPT_KEY_FILE"),
        clearing_days=read.integer("CLEARING_DAYS", 30, LEAST_CLEARING_DAYS, 365),
        reserve_percent=read.integer("RESERVE_PERCENT", 10, 0, 100),
        payout_minimum_tokens=read.integer("PAYOUT_MINIMUM_TOKENS", 1_000, 1, 1_000_000),
        payout_minor_per_token=read.integer("PAYOUT_MINOR_PER_TOKEN", 5, 1, 1_000),
        payout_currency=read.currency("PAYOUT_CURRENCY", "USD"),
        hls_dir=Path(read.text("HLS_DIR", str(var_dir / "hls"))).resolve(),
        transcode_rooms=read.integer("TRANSCODE_ROOMS", os.cpu_count() or 1, 0, 1_000),
        recordings_dir=Path(read.text("RECORDINGS_DIR", str(var_dir / "recordings"))).resolve(),
        recording_days=read.integer("RECORDING_DAYS", 30, 1, 365),
        recordings_free_mb=read.integer("RECORDINGS_FREE_MB", 1_000, 0, 100_000_000),
        transcode_worker_id=read.text("TRANSCODE_WORKER_ID", socket.gethostname()),
        transcode_preset=read.text("TRANSCODE_PRESET", "superfast"),
        low_latency_hls=read.boolean("LOW_LATENCY_HLS"),
        spectator_seconds=read.integer(
            "SPECTATOR_SECONDS", PLAIN_CDN_SECONDS if read.text("CDN_BASE_URL", "") else 3_600, 30, 86_400
        ),
        players_socket=read.path("PLAYERS_SOCKET"),
        cdn_base_url=read.text("CDN_BASE_URL", "").rstrip("/"),
        cdn_edge_checks=read.boolean("CDN_EDGE_CHECKS"),
        s3_endpoint=read.text("S3_ENDPOINT", "").rstrip("/"),
        s3_bucket=read.text("S3_BUCKET", ""),
        s3_region=read.text("S3_REGION", "us-east-1"),
        s3_access_key_id=read.text("S3_ACCESS_KEY_ID", ""),
        s3_secret_access_key=read.text("S3_SECRET_ACCESS_KEY", ""),
    )
    wrong = [*read.wrong, *(reason for rule in _RULES for reason in rule(settings))]
    if wrong:
        raise SettingsError("The settings do not fit:\n" + "\n".join(f"  - {reason}" for reason in wrong))
    return settings


def is_loopback(address: str) -> bool:
    """Whether nobody outside this machine reaches ``address``."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _secret_rule(settings: Settings) -> list[str]:
    if len(settings.secret_key) >= 32:
        return []
    return ["SECRET_KEY must have at least 32 characters; `make run` makes one under var/"]


def _address_rule(settings: Settings) -> list[str]:
    wrong = []
    if urlsplit(settings.public_url).scheme not in ("http", "https") or not urlsplit(settings.public_url).netloc:
        wrong.append("PUBLIC_URL must be an http(s) address such as https://stream.example")
    if urlsplit(settings.amqp_url).scheme not in ("amqp", "amqps"):
        wrong.append("AMQP_URL must begin with amqp:// or amqps://")
    management = urlsplit(settings.rabbitmq_management_url)
    if settings.rabbitmq_management_url and (management.scheme not in ("http", "https") or not management.netloc):
        wrong.append("RABBITMQ_MANAGEMENT_URL must be an http(s) address, or empty for none")
    if not settings.database_url.startswith(("sqlite:", "postgresql:", "postgresql+psycopg:")):
        wrong.append("DATABASE_URL must begin with sqlite: or postgresql:")
    return wrong


def _gateway_rule(settings: Settings) -> list[str]:
    wrong = []
    if settings.currency not in CURRENCIES:
        wrong.append(f"CURRENCY must be one of {', '.join(CURRENCIES)}")
    if settings.gateway not in ("sandbox", "stripe"):
        wrong.append("GATEWAY must be sandbox or stripe")
    if settings.gateway != "stripe":
        return wrong
    if settings.demo:
        wrong.append("DEMO=1 needs GATEWAY=sandbox: its tokens are gifts")
    if not settings.stripe_secret_key.startswith(("sk_", "rk_")):
        wrong.append("GATEWAY=stripe needs STRIPE_SECRET_KEY, which begins with sk_ or rk_")
    if not settings.stripe_webhook_secrets or not all(
        secret.startswith("whsec_") for secret in settings.stripe_webhook_secrets
    ):
        wrong.append("GATEWAY=stripe needs STRIPE_WEBHOOK_SECRET, which begins with whsec_ (several: with commas)")
    base = urlsplit(settings.stripe_api_base)
    if settings.stripe_api_base != STRIPE_API_BASE and not (
        settings.testing and base.scheme == "http" and is_loopback(base.hostname or "")
    ):
        wrong.append("STRIPE_API_BASE may be another one on this machine in tests only: it is sent the key")
    return wrong


def _spectator_rule(settings: Settings) -> list[str]:
    wrong = []
    if settings.transcode_preset not in TRANSCODE_PRESETS:
        wrong.append(f"TRANSCODE_PRESET must be one of {', '.join(TRANSCODE_PRESETS)}")
    cdn = urlsplit(settings.cdn_base_url)
    if settings.cdn_base_url and (cdn.scheme not in ("http", "https") or not cdn.netloc):
        wrong.append("CDN_BASE_URL must be an http(s) address, or empty for none")
    if settings.cdn_base_url and not settings.cdn_edge_checks and settings.spectator_seconds > PLAIN_CDN_SECONDS:
        wrong.append(f"SPECTATOR_SECONDS must be at most {PLAIN_CDN_SECONDS} for a CDN without CDN_EDGE_CHECKS=1")
    return wrong


def _storage_rule(settings: Settings) -> list[str]:
    needed = {
        "S3_ENDPOINT": settings.s3_endpoint,
        "S3_BUCKET": settings.s3_bucket,
        "S3_ACCESS_KEY_ID": settings.s3_access_key_id,
        "S3_SECRET_ACCESS_KEY": settings.s3_secret_access_key,
    }
    if not any(needed.values()):
        return []
    wrong = [f"{name} is missing: object storage needs all of {', '.join(needed)}"
             for name, value in needed.items() if not value]  # fmt: skip
    endpoint = urlsplit(settings.s3_endpoint)
    if endpoint.scheme not in ("http", "https") or not endpoint.netloc or endpoint.path or endpoint.username:
        wrong.append("S3_ENDPOINT must be an http(s) address without a path, such as https://s3.example")
    if settings.s3_bucket and _BUCKET.fullmatch(settings.s3_bucket) is None:
        wrong.append("S3_BUCKET must be a bucket's name: 3 to 63 small letters, digits, points and hyphens")
    if settings.low_latency_hls:
        wrong.append("LOW_LATENCY_HLS=1 does not go with S3_BUCKET: parts are too short-lived for object storage")
    return wrong


def _recordings_rule(settings: Settings) -> list[str]:
    inside = settings.recordings_dir.is_relative_to(settings.hls_dir)
    if inside or settings.hls_dir.is_relative_to(settings.recordings_dir):
        return ["RECORDINGS_DIR must lie outside HLS_DIR, and HLS_DIR outside it: what is there is public"]
    return []


def _minute_rule(settings: Settings) -> list[str]:
    if settings.minute_ms == 60_000 or settings.demo or settings.testing:
        return []
    return ["MINUTE_SECONDS may shorten the minute in demo mode and tests only"]


def _media_network_rule(settings: Settings) -> list[str]:
    wrong = [
        f"{name} must be IP addresses in digits, with commas"
        for name, addresses in (
            ("MEDIA_ADDRESSES", settings.media_addresses),
            ("MEDIA_ANNOUNCED_ADDRESSES", settings.media_announced_addresses),
        )
        if not all(_is_ip(address) for address in addresses)
    ]
    if settings.media_engine not in ("native", "python"):
        wrong.append("MEDIA_ENGINE must be native or python")
    if not all(_TURN_URL.fullmatch(url) for url in settings.turn_urls):
        wrong.append("TURN_URLS must be such as turn:turn.example:3478?transport=udp, with commas")
    if bool(settings.turn_urls) != bool(settings.turn_secret):
        wrong.append("TURN_URLS and TURN_SECRET are of use only together")
    return wrong


def _is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


def _demo_rule(settings: Settings) -> list[str]:
    if not settings.demo:
        return []
    outside = [
        name
        for name, host in (
            ("HOST", settings.host),
            ("PUBLIC_URL", urlsplit(settings.public_url).hostname or ""),
            ("MEDIA_HOST", settings.media_host),
            *(("MEDIA_ADDRESSES", address) for address in settings.media_addresses or ("0.0.0.0",)),  # noqa: S104
        )
        if not is_loopback(host)
    ]
    return [f"DEMO=1 needs {name} on loopback: its tokens are gifts" for name in dict.fromkeys(outside)]


_RULES: tuple[Callable[[Settings], list[str]], ...] = (
    _secret_rule,
    _address_rule,
    _gateway_rule,
    _spectator_rule,
    _recordings_rule,
    _storage_rule,
    _minute_rule,
    _media_network_rule,
    _demo_rule,
)


class _Reader:
    """Reads values and collects what is wrong with them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.wrong: list[str] = []

    def text(self, name: str, default: str) -> str:
        return self._environ.get(name, "").strip() or default

    def words(self, name: str) -> tuple[str, ...]:
        return tuple(word.strip() for word in self.text(name, "").split(",") if word.strip())

    def file(self, name: str) -> Path | None:
        text = self.text(name, "")
        if text and not Path(text).is_file():
            self.wrong.append(f"{name} must name a file that is there")
        return Path(text).resolve() if text else None

    def path(self, name: str) -> Path | None:
        text = self.text(name, "")
        return Path(text).resolve() if text else None

    def currency(self, name: str, default: str) -> str:
        text = self.text(name, default).upper()
        if len(text) == 3 and text.isascii() and text.isalpha():
            return text
        self.wrong.append(f"{name} must be an ISO 4217 code such as USD")
        return default

    def integer(self, name: str, default: int, lowest: int, highest: int) -> int:
        text = self.text(name, str(default))
        try:
            value = int(text)
        except ValueError:
            value = lowest - 1
        if lowest <= value <= highest:
            return value
        self.wrong.append(f"{name} must be a whole number from {lowest} to {highest}")
        return default

    def boolean(self, name: str) -> bool:
        text = self.text(name, "0").lower()
        if text not in ("0", "1", "true", "false"):
            self.wrong.append(f"{name} must be 0 or 1")
        return text in ("1", "true")

    def ice_servers(self) -> tuple[IceServer, ...]:
        text = self.text("ICE_SERVERS", "[]")
        try:
            return msgspec.json.decode(text, type=tuple[IceServer, ...])
        except msgspec.DecodeError:
            self.wrong.append('ICE_SERVERS must be JSON such as [{"urls": ["stun:stun.example:3478"]}]')
            return ()
