"""An object storage on this machine: moto keeps the objects and speaks S3, botocore's own signer checks who asks.

moto does not check signatures; here a request without a good one, or whose address has expired, gets 403 before
moto sees it, as a private bucket of the real thing answers. ``down`` makes it an outage.
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from minio import Minio
from moto.backends import get_backend
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

REGION, BUCKET = "eu-west-1", "hls-bucket"
KEY_ID, SECRET = "AKIATESTTESTTESTTEST", "s3-secret-of-tests-only-never-anywhere"
Start = Callable[..., Any]


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None:
        """Say nothing."""


class S3Server:
    """One private bucket. ``requests``: method and path of each, in order."""

    def __init__(self) -> None:
        self.down = False
        self.later = timedelta()
        """How much later it is for this server than for everybody."""
        self.requests: list[tuple[str, str]] = []
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self.environment = {
            "S3_ENDPOINT": self.endpoint,
            "S3_BUCKET": BUCKET,
            "S3_REGION": REGION,
            "S3_ACCESS_KEY_ID": KEY_ID,
            "S3_SECRET_ACCESS_KEY": SECRET,
        }

    def __enter__(self) -> S3Server:
        get_backend("s3").reset()
        self._thread.start()
        self.client.make_bucket(BUCKET)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    @property
    def client(self) -> Minio:
        """The operator's."""
        where = urlsplit(self.endpoint).netloc
        return Minio(where, access_key=KEY_ID, secret_key=SECRET, secure=False, region=REGION)

    def names(self) -> set[str]:
        """Every object."""
        return {str(each.object_name) for each in self.client.list_objects(BUCKET, recursive=True)}

    def read(self, name: str) -> bytes:
        """One object's bytes."""
        with self.client.get_object(BUCKET, name) as answer:
            return bytes(answer.data)

    def puts(self) -> list[str]:
        """Names of what was put, in order."""
        start = f"/{BUCKET}/"
        return [path.removeprefix(start) for method, path in self.requests if method == "PUT" and path > start]

    def _answer(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        self.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        if self.down:
            return _refuse(environ, start, "503 Slow Down", b"ServiceUnavailable")
        if not self._is_signed(environ):
            return _refuse(environ, start, "403 Forbidden", b"AccessDenied")
        answer: Iterable[bytes] = self._app(environ, start)
        return answer

    def _is_signed(self, environ: dict[str, Any]) -> bool:
        query = parse_qs(environ["QUERY_STRING"], keep_blank_values=True)
        if "X-Amz-Signature" in query:
            return self._is_good_address(environ, query)
        return _is_good_header(environ)

    def _is_good_address(self, environ: dict[str, Any], query: dict[str, list[str]]) -> bool:
        at, seconds = query["X-Amz-Date"][0], int(query["X-Amz-Expires"][0])
        begun = datetime.strptime(at, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if datetime.now(UTC) + self.later > begun + timedelta(seconds=seconds):
            return False
        text = environ["QUERY_STRING"].rpartition("&X-Amz-Signature=")[0]
        signer = S3SigV4QueryAuth(Credentials(KEY_ID, SECRET), "s3", REGION)
        return _same(signer, environ, text, ["host"], at, query["X-Amz-Signature"][0])


def _is_good_header(environ: dict[str, Any]) -> bool:
    words = environ.get("HTTP_AUTHORIZATION", "").replace(",", " ").split()
    said = dict(word.split("=", 1) for word in words[1:])
    if words[:1] != ["AWS4-HMAC-SHA256"] or not said["Credential"].startswith(f"{KEY_ID}/"):
        return False
    signer = S3SigV4Auth(Credentials(KEY_ID, SECRET), "s3", REGION)
    signed = said["SignedHeaders"].split(";")
    return _same(signer, environ, environ["QUERY_STRING"], signed, environ["HTTP_X_AMZ_DATE"], said["Signature"])


def _same(signer: Any, environ: dict[str, Any], query: str, signed: list[str], at: str, signature: str) -> bool:
    headers = {name: _header(environ, name) for name in signed}
    address = f"http://{environ['HTTP_HOST']}{environ['RAW_URI'].partition('?')[0]}?{query}"
    request = AWSRequest(method=environ["REQUEST_METHOD"], url=address, headers=headers)
    request.context["timestamp"] = at
    text = signer.string_to_sign(request, signer.canonical_request(request))
    return hmac.compare_digest(signer.signature(text, request), signature)


def _header(environ: dict[str, Any], name: str) -> str:
    plain = name.upper().replace("-", "_")
    return str(environ.get(plain) or environ.get(f"HTTP_{plain}", ""))


def _refuse(environ: dict[str, Any], start: Start, status: str, code: bytes) -> list[bytes]:
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    body = b"<Error><Code>" + code + b"</Code><Message>no</Message></Error>"
    start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]
