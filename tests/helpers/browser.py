"""A headless Chromium, where one is installed: what a page shows and says."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

NAMES = 'chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'
FLAGS = (
  *('--headless', '--no-sandbox', '--disable-gpu', '--hide-scrollbars'),
  *('--enable-logging=stderr', '--log-level=0', '--no-first-run'),
  # The browser itself asks nobody; of a page's requests each is an error.
  *('--disable-background-networking', '--disable-component-update'),
  '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
)


def find() -> str:
  """The program; skips the test where there is none."""
  found = next(filter(None, map(shutil.which, NAMES)), None)
  if not found:
    pytest.skip(f'no headless browser here: none of {", ".join(NAMES)}')
  return found


def open_page(
  address: str, profile: Path, *flags: str
) -> tuple[str, list[str]]:
  """(what --dump-dom and the like print, lines of the page's console)."""
  done = subprocess.run(
    [find(), *FLAGS, f'--user-data-dir={profile}', *flags, address],
    capture_output=True, text=True, timeout=120, check=True,
  )  # fmt: skip
  return done.stdout, re.findall(r'.*CONSOLE.*', done.stderr)
