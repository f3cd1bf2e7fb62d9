"""Pages, REST, the live feed and the signaling pipe: what faces browsers and programs.

Translates between HTTP and ``models.services`` and decides nothing about money or media itself.
Must not import ``workers`` or ``media``; talks to a media node through ``web.rpc`` and ``web.signaling``.
"""

from __future__ import annotations

import logging
import time
from importlib import import_module
from pathlib import Path

from flask import Flask, Response, g, request

from models import log
from models.config import Settings, load_settings
from models.db import Database
from models.gateways import gateway_for
from models.receipt_keys import signing_key
from models.sharing import Players
from models.timing import timers_for
from web import assets, auth, cli, crowd, events, failures, ingest, live, security, signaling, sockets
from web.api import (
    admin,
    battles,
    bookings,
    earnings,
    health,
    openapi,
    passes,
    payments,
    receipts,
    recordings,
    rtc,
    spectating,
    spending,
    streaming,
    subscriptions,
    tips,
    wallet,
    whip,
)
from web.api import auth as auth_api
from web.audience import Audience
from web.blocking import Waiting
from web.context import EXTENSION, Greenroom, cause_id, greenroom
from web.events import Hub
from web.metrics import Metrics
from web.rpc import NodeRpc

ROOT = Path(__file__).resolve().parent.parent
APIS = (
    auth_api.api,
    wallet.api,
    payments.api,
    streaming.api,
    rtc.api,
    whip.api,
    spectating.api,
    subscriptions.api,
    passes.api,
    tips.api,
    spending.api,
    bookings.api,
    battles.api,
    earnings.api,
    receipts.api,
    recordings.api,
    admin.api,
)
_SOCKETS = (events.blueprint, signaling.blueprint)
_SOCKET_NAMES = frozenset(blueprint.name for blueprint in _SOCKETS)


def create_app(settings: Settings | None = None) -> Flask:
    """The application. Reads the environment when given no settings; raises SettingsError when they do not fit.

    Opens no connection and starts no thread: those begin with the first request that needs them.
    """
    settings = settings or load_settings()
    log.configure("web", settings.log_level)
    # Says each failed connection five times and with its address; we say it once, without.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    app = Flask(__name__, template_folder=str(ROOT / "templates"), static_folder=None)
    app.config["SECRET_KEY"] = settings.key("flask").hex()
    app.url_map.strict_slashes = False
    signing_key(settings)  # a key file that is none is refused now, not at the first receipt
    house = _house(settings)
    app.extensions.update(
        {
            EXTENSION: house,
            "settings": settings,
            "database": house.database,
            "apis": APIS,
            "probes": health.probes_of(house),
        }
    )
    app.before_request(_begin)
    security.init_app(app, settings)
    crowd.init_app(app)
    assets.init_app(app)
    auth.init_app(app)
    app.after_request(_finish)
    failures.init_app(app)
    sockets.init_app(app)
    _register_views(app)
    cli.init_app(app)
    return app


def _house(settings: Settings) -> Greenroom:
    database = Database(settings.database_url)
    metrics = Metrics(database, settings.hls_dir)
    return Greenroom(
        settings=settings,
        timers=timers_for(settings.minute_ms),
        database=database,
        rpc=NodeRpc(settings.amqp_url),
        gateway=gateway_for(settings, database),
        hub=Hub(settings.amqp_url, database, metrics),
        audience=Audience(database),
        players=Players(),
        waiting=Waiting(),
        films=crowd.Crowd(crowd.MOST_FILMS, crowd.MOST_FILMS_EACH, of="films"),
        metrics=metrics,
    )


def _register_views(app: Flask) -> None:
    app.after_request(ingest.accept_post)
    for api in APIS:
        app.register_blueprint(api.blueprint())
    app.register_blueprint(health.blueprint)
    app.register_blueprint(openapi.blueprint)
    app.register_blueprint(receipts.blueprint)
    app.register_blueprint(live.blueprint)
    for blueprint in _SOCKETS:
        app.register_blueprint(blueprint)
    pages = import_module("web.pages")
    app.before_request(_check_pages_csrf)
    app.register_blueprint(pages.blueprint)


def _check_pages_csrf() -> None:
    """The API checks by itself, after it knows who asks; everything else is checked here."""
    if not failures.is_for_programs():
        auth.check_csrf()


def _begin() -> None:
    g.began = time.monotonic()
    cause_id()


def _finish(response: Response) -> Response:
    response.headers["X-Request-Id"] = cause_id()
    seconds = time.monotonic() - g.get("began", time.monotonic())
    route = str(request.url_rule) if request.url_rule else "none"
    metrics = greenroom().metrics
    metrics.answered(request.method, route, response.status_code)
    if request.blueprint not in _SOCKET_NAMES and request.endpoint != "static":
        metrics.seconds.labels(route).observe(seconds)
        log.event(
            "request",
            method=request.method,
            route=route,
            status=response.status_code,
            ms=round(seconds * 1000),
            cause_id=cause_id(),
        )
    return response
