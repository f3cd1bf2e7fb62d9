"""One bucket of an object storage that speaks S3: put, list, remove, and addresses that work for a while.

Knows nothing of broadcasts. Every call answers or raises Unreachable within a few seconds; who calls decides
whether to try again. Says nothing of credentials, and nothing of addresses that carry a signature, to any log.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from datetime import timedelta
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import MinioException

from models.config import Settings

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 5.0


class Unreachable(Exception):
    """The object storage did not do it; the text is the error's kind, never an address."""


class Bucket:
    """Thread-safe: one pool of ``connections``."""

    def __init__(self, settings: Settings, connections: int) -> None:
        where = urlsplit(settings.s3_endpoint)
        # Who calls knows better when to try again: a segment is old news after seconds.
        pool = urllib3.PoolManager(
            maxsize=connections,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=ANSWER_SECONDS),
            retries=False,
        )
        self._name = settings.s3_bucket
        self._client = Minio(
            where.netloc,
            access_key=settings.s3_access_key_id,
            secret_key=settings.s3_secret_access_key,
            secure=where.scheme == "https",
            region=settings.s3_region,
            http_client=pool,
        )
        # Addresses begin as S3_ENDPOINT does: pages allow that origin and no other.
        self._client.disable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
        self._client.disable_dualstack_endpoint()  # type: ignore[no-untyped-call]

    def put(self, name: str, data: bytes, kind: str, cache_control: str) -> None:
        """Make or replace an object. Raises Unreachable."""
        headers: dict[str, str | list[str] | tuple[str]] = {"Cache-Control": cache_control}
        try:
            self._client.put_object(
                self._name, name, io.BytesIO(data), len(data), content_type=kind, metadata=headers
            )
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise Unreachable(_kind(error)) from None

    def names(self, prefix: str = "", *, below: bool = True) -> set[str]:
        """Objects that begin with ``prefix``; without ``below``, only up to a slash. Raises Unreachable."""
        try:
            found = self._client.list_objects(self._name, prefix=prefix, recursive=below)
            return {str(each.object_name) for each in found}
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise Unreachable(_kind(error)) from None

    def remove(self, names: Iterable[str]) -> None:
        """Objects that nobody asks for any more; one that is gone already is fine. Raises Unreachable."""
        try:
            failed = list(self._client.remove_objects(self._name, [DeleteObject(name) for name in names]))
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise Unreachable(_kind(error)) from None
        if failed:
            raise Unreachable(str(failed[0].code))

    def address(self, name: str, seconds: int) -> str:
        """Where anybody may get the object for so long (SigV4, in the query). Asks nobody."""
        return str(self._client.presigned_get_object(self._name, name, expires=timedelta(seconds=seconds)))


def _kind(error: Exception) -> str:
    """``AccessDenied``, ``SlowDown``, ``ConnectTimeoutError`` …: the texts of both libraries have addresses."""
    return str(getattr(error, "code", None) or type(error).__name__)
