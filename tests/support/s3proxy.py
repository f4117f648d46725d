"""nginx in front of an object store, to see what the store is asked and what it answers."""

import itertools
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import ProxyHandler, build_opener

from tests.support import ports, tools
from tests.support.processes import Child
from tests.support.s3 import S3

# The Host goes through as it came: it is signed.
_CONFIG = """\
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
  log_format call escape=json
    '["$request_method","$request_uri","$status","$content_length","$upstream_response_length"]';
  access_log {folder}/calls call; client_max_body_size 0; server_tokens off; keepalive_requests 100000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream store {{ server {upstream} max_fails=0; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port};
    location /{mark} {{ return 204; }}
    location / {{
      proxy_pass http://store;
      proxy_http_version 1.1; proxy_request_buffering off; proxy_buffering off;
      proxy_set_header Host $http_host; proxy_set_header Connection "";
    }}
  }}
}}
"""
_MARK = ".mark/"


@dataclass(frozen=True)
class Call:
    """One request, as the proxy saw it."""

    method: str
    path: str
    """Not percent-encoded: `/bucket/key`."""
    query: str
    """As it was sent, without the question mark."""
    status: int
    received: int
    """Bytes of the request's body, by its Content-Length."""
    sent: int
    """Bytes of the body that the store answered."""


class S3Proxy:
    """Forwards to `store`. Its own `server` takes the same keys."""

    def __init__(self, store: S3) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="y3-", dir="/tmp"))
        self._log = self._folder / "calls"
        self._seen = 0
        self._marks = itertools.count()
        port = ports.free()
        self.server = replace(store, endpoint=f"http://127.0.0.1:{port}")
        config = self._folder / "nginx.conf"
        upstream = urlsplit(store.endpoint).netloc
        config.write_text(_CONFIG.format(folder=self._folder, port=port, upstream=upstream, mark=_MARK))
        self._child = Child([tools.path("nginx"), "-c", config, "-p", self._folder], log=self._folder / "log")
        self._child.wait_for(lambda: ports.answers(port), f"nginx on port {port}")

    def calls(self) -> list[Call]:
        """What was answered since the last look, in that order.

        nginx writes a line after it has sent the answer, so a request of our own is made last and waited for.
        """
        mark = f"/{_MARK}{next(self._marks)}"
        with build_opener(ProxyHandler({})).open(self.server.endpoint + mark, timeout=10):
            pass
        lines: list[list[str]] = []

        def is_logged() -> bool:
            complete = self._log.read_text().rpartition("\n")[0].splitlines()
            lines[:] = [json.loads(line) for line in complete[self._seen :]]
            return any(line[1] == mark for line in lines)

        self._child.wait_for(is_logged, f"{mark} in the log")
        self._seen += len(lines)
        return [_call(*line) for line in lines if not line[1].startswith(f"/{_MARK}")]

    def stop(self) -> None:
        self._child.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


def _call(method: str, uri: str, status: str, received: str, sent: str) -> Call:
    path, _, query = uri.partition("?")
    return Call(method, unquote(path), query, int(status), int(received or 0), int(sent or 0))


@contextmanager
def before(store: S3) -> Iterator[S3Proxy]:
    """A proxy that ends with the context."""
    proxy = S3Proxy(store)
    try:
        yield proxy
    finally:
        proxy.stop()
