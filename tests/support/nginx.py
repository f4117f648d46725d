"""nginx in front of a registry, or alone with files."""

import shutil
import tempfile
from pathlib import Path

from tests.support import ports, tools
from tests.support.certificates import Issued
from tests.support.processes import Child

_CONFIG = """\
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; client_max_body_size 0; server_tokens off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port}{tls};
    location / {{
      proxy_pass http://127.0.0.1:{upstream};
      proxy_http_version 1.1; proxy_request_buffering off; proxy_buffering off;
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-For $remote_addr;
    }}
  }}
}}
"""


class Nginx:
    """Forwards to the registry on `upstream`, over TLS when given a certificate."""

    def __init__(self, upstream: int, *, certificate: Issued | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="yx-", dir="/tmp"))
        self.port = ports.free()
        config = self.folder / "nginx.conf"
        tls = _tls(certificate) if certificate else ""
        config.write_text(_CONFIG.format(folder=self.folder, port=self.port, upstream=upstream, tls=tls))
        self._child = Child([tools.path("nginx"), "-c", config, "-p", self.folder], log=self.folder / "log")
        self._child.wait_for(lambda: ports.answers(self.port), f"nginx on port {self.port}")

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    def stop(self) -> None:
        self._child.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def _tls(issued: Issued) -> str:
    return f" ssl; ssl_certificate {issued.certificate}; ssl_certificate_key {issued.key}"
