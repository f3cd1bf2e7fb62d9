"""A small Stripe on this machine: real HTTP, Stripe's wire format, and a page on which a browser can pay.

``with StripeServer() as stripe:`` serves it on ``stripe.url``; ``stripe.world`` is what a test looks at and
acts on (a dispute, a bank that refuses). It can be away, and can lose answers after having done the work.
"""

from __future__ import annotations

import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fakes.stripe_objects import make
from fakes.stripe_wire import Memory, Refused, encoded, form, page, signature
from fakes.stripe_world import GOOD, Object, World

KEY, SECRET = "sk_test_of_the_fake", "whsec_of_the_fake"
_LIST = {"limit", "starting_after", "created"}


@dataclass
class Route:
    method: str
    path: re.Pattern[str]
    params: set[str]
    run: Callable[..., Object]


def _routes(world: World) -> list[Route]:
    def route(method: str, path: str, run: Callable[..., Object], *params: str) -> Route:
        return Route(method, re.compile(f"/v1/{path}"), {*params, "expand"}, run)

    def get(kind: str) -> Callable[..., Object]:
        return lambda params, account, id_: world.get(kind, id_)

    def listed(kind: str, path: str, *names: str) -> Callable[..., Object]:
        def run(params: Object, account: str | None, *ids: str) -> Object:
            having = {name: params[name] for name in names if name in params}
            return page(f"/v1/{path}", world.all(kind, **having), params)

        return run

    def methods(params: Object, account: str | None, customer: str) -> Object:
        world.get("customer", customer)
        mine = world.all("payment_method", customer=customer)
        return page(f"/v1/customers/{customer}/payment_methods", mine, params)

    def intent(params: Object, account: str | None, id_: str) -> Object:
        found = dict(world.get("payment_intent", id_))
        if "latest_charge" in params.get("expand", []) and found["latest_charge"] is not None:
            found["latest_charge"] = world.get("charge", found["latest_charge"])
        return found

    def link(params: Object, account: str | None) -> Object:
        world.get("account", params["account"])
        made = make("account_link")
        made["url"] = f"{world.public_url}/onboard/{params['account']}?return={params['return_url']}"
        return made

    def payouts(params: Object, account: str | None) -> Object:
        mine = [row for row in world.all("payout") if world.owners[row["id"]] == account]
        return page("/v1/payouts", mine, params)

    def payout(params: Object, account: str | None, id_: str) -> Object:
        found = world.get("payout", id_)
        if world.owners[id_] != account:
            raise Refused(404, "invalid_request_error", "resource_missing")
        return found

    return [
        route("POST", "checkout/sessions", lambda params, account: world.checkout(params),
              "mode", "allowed_payment_method_types", "client_reference_id", "metadata", "line_items",
              "payment_intent_data", "success_url", "cancel_url", "expires_at", "customer", "customer_creation"),
        route("GET", "checkout/sessions", listed("checkout.session", "checkout/sessions"), *_LIST),
        route("GET", "checkout/sessions/([^/]+)", get("checkout.session")),
        route("POST", "payment_intents", lambda params, account: world.charge_off_session(params),
              "amount", "currency", "customer", "payment_method", "allowed_payment_method_types", "off_session",
              "confirm", "description", "metadata"),
        route("GET", "payment_intents", listed("payment_intent", "payment_intents", "customer"),
              *_LIST, "customer"),
        route("GET", "payment_intents/([^/]+)", intent),
        route("GET", "charges/([^/]+)", get("charge")),
        route("GET", "customers/([^/]+)", get("customer")),
        route("GET", "customers/([^/]+)/payment_methods", methods, *_LIST, "type"),
        route("POST", "refunds", lambda params, account: world.refund(params),
              "payment_intent", "amount", "reason", "metadata"),
        route("GET", "refunds", listed("refund", "refunds", "payment_intent"), *_LIST, "payment_intent"),
        route("GET", "refunds/([^/]+)", get("refund")),
        route("GET", "disputes", listed("dispute", "disputes", "payment_intent"), *_LIST, "payment_intent"),
        route("GET", "disputes/([^/]+)", get("dispute")),
        route("GET", "radar/early_fraud_warnings",
              listed("radar.early_fraud_warning", "radar/early_fraud_warnings", "payment_intent"),
              *_LIST, "payment_intent"),
        route("POST", "accounts", lambda params, account: world.account(params),
              "controller", "capabilities", "settings", "metadata"),
        route("GET", "accounts/([^/]+)", get("account")),
        route("POST", "account_links", link, "account", "type", "return_url", "refresh_url"),
        route("POST", "transfers", lambda params, account: world.transfer(params),
              "amount", "currency", "destination", "transfer_group"),
        route("GET", "transfers", listed("transfer", "transfers", "transfer_group"), *_LIST, "transfer_group"),
        route("GET", "transfers/([^/]+)", get("transfer")),
        route("POST", "transfers/([^/]+)/reversals",
              lambda params, account, id_: world.reverse_transfer(id_, params), "amount"),
        route("POST", "payouts", lambda params, account: world.payout(params, account or ""),
              "amount", "currency", "metadata"),
        route("GET", "payouts", payouts, *_LIST),
        route("GET", "payouts/([^/]+)", payout),
        route("GET", "events/([^/]+)", get("event")),
        route("GET", "events", listed("event", "events", "type"), *_LIST, "type"),
    ]  # fmt: skip


class StripeServer:
    """The fake, served on a free port of this machine until the ``with`` ends."""

    def __init__(self, port: int = 0) -> None:
        self.world = World()
        self.memory = Memory()
        self.away = False
        """Answers nothing but 503."""
        self.lose_answers = 0
        """So many writes are carried out and their answers lost: the connection just ends."""
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        """Method, path and headers of each call of the API."""
        self.webhook_url: str | None = None
        """Where events go at once; without one they stay in the world for ``deliver``."""
        self.routes = _routes(self.world)
        self.world.on_event = self._send
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.world.public_url = self.url
        self._sending: list[threading.Thread] = []

    def __enter__(self) -> StripeServer:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        for thread in self._sending:
            thread.join(timeout=60)

    def deliver(self, event: Object, *, url: str | None = None, secret: str = SECRET) -> int:
        """Send one event, signed; the HTTP status that came back."""
        body = encoded(event)
        request = urllib.request.Request(
            url or self.webhook_url or "",
            data=body,
            headers={"Content-Type": "application/json", "Stripe-Signature": signature(body, secret)},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    def _send(self, event: Object) -> None:
        if self.webhook_url is None:
            return
        thread = threading.Thread(target=self._deliver_quietly, args=(event,))
        self._sending.append(thread)
        thread.start()

    def _deliver_quietly(self, event: Object) -> None:
        try:
            self.deliver(event)
        except OSError:
            # Stripe would try again for days; here the polls have to find it.
            return


def _handler(stripe: StripeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body are two writes: the second would wait 40 ms for the other side to acknowledge the first.
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

        def do_GET(self) -> None:
            self._answer("GET")

        def do_POST(self) -> None:
            self._answer("POST")

        def _answer(self, method: str) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            if not parts.path.startswith("/v1/"):
                self._page(method, parts.path, parts.query, body)
                return
            stripe.asked.append((method, parts.path, dict(self.headers.items())))
            text = body if method == "POST" else parts.query
            with stripe.world.lock:
                status, content, headers = self._api(method, parts.path, text)
            if method == "POST" and stripe.lose_answers:
                stripe.lose_answers -= 1
                self.close_connection = True
                return
            self._write(status, content, "application/json", headers)

        def _api(self, method: str, path: str, text: str) -> tuple[int, bytes, dict[str, str]]:
            key = self.headers.get("Idempotency-Key") if method == "POST" else None
            account = self.headers.get("Stripe-Account")
            asked = f"{account} {path} {text}"
            try:
                if stripe.away:
                    raise Refused(503, "api_error")
                if self.headers.get("Authorization") != f"Bearer {KEY}":
                    raise Refused(401, "invalid_request_error", message="Invalid API Key provided")
                if key is not None and (first := stripe.memory.replay(key, asked)) is not None:
                    return first.status, first.body, {"Idempotent-Replayed": "true"}
                status, answer = 200, self._run(method, path, form(text), account)
            except Refused as refusal:
                status, answer = refusal.status, refusal.body
            content = encoded(answer)
            if key is not None:
                stripe.memory.keep(key, asked, status, content)
            return status, content, {}

        def _run(self, method: str, path: str, params: Object, account: str | None) -> Object:
            for route in stripe.routes:
                match = route.path.fullmatch(path)
                if match is None or route.method != method:
                    continue
                if unknown := sorted(set(params) - route.params):
                    raise Refused(400, "invalid_request_error", "parameter_unknown", param=unknown[0])
                try:
                    return route.run(params, account, *match.groups())
                except KeyError as missing:
                    raise Refused(
                        400, "invalid_request_error", "parameter_missing", param=str(missing.args[0])
                    ) from missing
            raise Refused(404, "invalid_request_error", message=f"Unrecognized request URL ({method}: {path}).")

        def _page(self, method: str, path: str, query: str, body: str) -> None:
            kind, _, id_ = path.strip("/").partition("/")
            world = stripe.world
            if kind == "onboard":
                back = parse_qs(query)["return"][0]
                if method == "POST":
                    world.finish_onboarding(id_)
                    self._redirect(back)
                    return
                self._html("Tell us about yourself", '<form method="post"><button>Finish</button></form>')
                return
            if kind != "pay":
                self._html("Not here", "", 404)
                return
            session = world.get("checkout.session", id_)
            refusal = ""
            if method == "POST":
                number = re.sub(r"\D", "", parse_qs(body).get("number", [GOOD])[0])
                try:
                    self._redirect(world.pay(id_, number)["success_url"])
                    return
                except Refused as refused:
                    refusal = f'<p role="alert">Your card was declined ({refused}).</p>'
            price = f"{session['amount_total'] / 100:.2f} {(session['currency'] or '').upper()}"
            self._html(
                f"Pay {price}",
                f'{refusal}<form method="post"><label>Card number <input name="number" value="{GOOD}"></label> '
                f'<button>Pay</button></form><p><a href="{session["cancel_url"]}">Back</a></p>',
            )

        def _redirect(self, to: str) -> None:
            self._write(303, b"", "text/plain", {"Location": to})

        def _html(self, title: str, content: str, status: int = 200) -> None:
            text = f"<!doctype html><title>{title}</title><h1>{title}</h1>{content}"
            self._write(status, text.encode(), "text/html; charset=utf-8", {})

        def _write(self, status: int, content: bytes, type_: str, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Type": type_, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    return Handler
