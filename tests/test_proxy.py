"""The nginx block of docs/cluster.md before a real MLflow server, whose pages work through it."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from servers import Server, free_port, mlflow_server

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[1] / "docs" / "cluster.md").read_text(encoding="utf-8")
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin")
ORIGIN = "https://mlflow.example.org"


def _files(folder: Path) -> None:
    """A certificate and one name with its password, where the block has them in /etc."""
    key, certificate = folder / "mlflow.key", folder / "mlflow.pem"
    subject = ["-subj", "/CN=mlflow.example.org", "-days", "1", "-nodes", "-keyout", key, "-out", certificate]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", *subject], check=True, capture_output=True)
    hashed = subprocess.run(["openssl", "passwd", "-apr1", "secret"], check=True, capture_output=True, text=True)
    (folder / "mlflow.htpasswd").write_text(f"ada:{hashed.stdout}")


@contextmanager
def proxy(folder: Path, server_port: int) -> Iterator[int]:
    """Nginx with the page's block, on a free port of 127.0.0.1 and with files in ``folder``."""
    (block,) = re.findall(r"```nginx\n(.*?)```", PAGE, re.DOTALL)
    port = free_port()
    for theirs, ours in {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "/etc/ssl/": f"{folder}/",
        "/etc/nginx/mlflow.htpasswd;": f"{folder}/mlflow.htpasswd;",
        "http://127.0.0.1:5000": f"http://127.0.0.1:{server_port}",
    }.items():
        assert theirs in block
        block = block.replace(theirs, ours)
    _files(folder)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if os.geteuid() == 0 else ""  # pytest's folders are closed to others
    main = f"{user}daemon off;\npid {folder}/pid;\nerror_log {folder}/log;\nevents {{}}\n"
    (folder / "nginx.conf").write_text(f"{main}http {{\naccess_log off;\n{temporary}{block}}}\n")
    command = [str(NGINX), "-c", str(folder / "nginx.conf"), "-e", str(folder / "log")]
    nginx = Server(command, lambda: _answers(port), folder / "log", uri=f"https://127.0.0.1:{port}")
    try:
        nginx.start()
        yield port
    finally:
        nginx.stop()


def _answers(port: int) -> bool:
    try:
        return status(port, "GET", "/health", password=None) == 401
    except ConnectionError:
        return False


def status(port: int, method: str, path: str, *, password: str | None = "secret", body: str | None = None) -> int:
    """What a browser on one of MLflow's pages is answered."""
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=ssl._create_unverified_context(), timeout=60)
    headers = {"Host": "mlflow.example.org", "Content-Type": "application/json", "Origin": ORIGIN}
    if password is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(f"ada:{password}".encode()).decode()
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


@pytest.mark.skipif(NGINX is None, reason="needs nginx (Debian: apt-get install nginx)")
@pytest.mark.parametrize("allowed", [True, False])
def test_pages_work_through_the_proxy_with_the_documented_option_and_not_without(tmp_path: Path, allowed: bool) -> None:
    (option,) = re.findall(rf"`(--cors-allowed-origins) {ORIGIN}`", PAGE)
    options = [option, ORIGIN] if allowed else []
    search = json.dumps({"max_results": 1})
    with mlflow_server(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "server", options=options) as server:
        (tmp_path / "nginx").mkdir()
        with proxy(tmp_path / "nginx", int(server.uri.rpartition(":")[2])) as port:
            assert status(port, "GET", "/", password="wrong") == 401
            assert status(port, "GET", "/") == 200
            expected = 200 if allowed else 403
            assert status(port, "POST", "/ajax-api/2.0/mlflow/experiments/search", body=search) == expected
