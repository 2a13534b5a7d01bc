"""A report that is served while runs go on."""

import http.client
import threading

import pytest

from train.comparing import serving
from train.comparing.page import Report


@pytest.fixture
def served():
  report = Report('<p>Größe</p>', {'eval.loss.png': b'picture'})
  server = serving.server(lambda: report)
  thread = threading.Thread(target=server.serve_forever)
  thread.start()
  yield server
  server.shutdown()
  server.server_close()
  thread.join()


def get(server, path, host=None):
  connection = http.client.HTTPConnection(*server.server_address, timeout=20)
  headers = {} if host is None else {'Host': host}
  connection.request('GET', path, headers=headers)
  answer = connection.getresponse()
  data = answer.read()
  connection.close()
  return answer.status, answer.getheader('Content-Type'), data


def test_page_and_pictures(served):
  page = 200, 'text/html; charset=utf-8', '<p>Größe</p>'.encode()
  assert get(served, '/') == get(served, '/?again') == page
  assert get(served, '/eval.loss.png') == (200, 'image/png', b'picture')
  for path in ('/favicon.ico', '/../pyproject.toml', '/etc/passwd'):
    assert get(served, path)[0] == 404


def test_only_this_machine_may_ask(served):
  assert served.server_address[0] == '127.0.0.1'
  port = served.server_address[1]
  assert get(served, '/', f'localhost:{port}')[0] == 200
  # A name of another site that was made to lead here.
  assert get(served, '/', f'example.org:{port}')[0] == 403


def test_a_taken_port(served):
  with pytest.raises(OSError, match=r'--port=\d+ cannot be served on'):
    serving.server(lambda: None, served.server_address[1])


def test_a_report_is_made_again_when_it_is_old(monkeypatch):
  now = [100.0]
  monkeypatch.setattr(serving.time, 'monotonic', lambda: now[0])
  made = []
  newest = serving.Newest(
    lambda: made.append(0) or Report(str(len(made)), {}), 15
  )
  assert newest().html == newest().html == '1'
  now[0] += 16
  assert newest().html == '2'
