"""What commands print: lines, warnings, and one live line of progress."""

import contextlib
import shutil
import sys
from typing import TextIO


def say(text: str, stream: TextIO | None = None, end: str = '\n') -> None:
  """Prints at once, by default to standard output.

  A closed pipe, or a full disk behind it, ends no command.
  """
  with contextlib.suppress(OSError):
    print(text, end=end, file=stream or sys.stdout, flush=True)


def warn(text: str) -> None:
  """Prints a warning to standard error."""
  say(f'Warning: {text}', sys.stderr)


def duration(seconds: float) -> str:
  """A time in its two largest units: '0m42s', '3h07m' or '2d05h'."""
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  days, hours = divmod(hours, 24)
  if days:
    return f'{days}d{hours:02}h'
  if hours:
    return f'{hours}h{minutes:02}m'
  return f'{minutes}m{seconds:02}s'


class LiveLine:
  """Progress that a terminal shows in place of the one before: a line, or more.

  Where the stream is not a terminal, each line stays.

  Args:
    active: False shows nothing.
    stream: where lines go; None: standard output.

  Attributes:
    live: whether the stream is a terminal.
  """

  def __init__(self, active: bool = True, stream: TextIO | None = None):
    self._active = active
    self._stream = stream or sys.stdout
    self._shown = 0  # lines
    self.live = self._stream.isatty()

  def show(self, text: str) -> None:
    """Shows the lines, cut to the width of the terminal."""
    if self._active and self.live:
      width = shutil.get_terminal_size().columns - 1  # no wrap, no smear
      lines = [line[:width] for line in text.split('\n')]
      clear = self._clear() or '\r\x1b[K'
      say(clear + '\n'.join(lines), self._stream, end='')
      self._shown = len(lines)
    elif self._active:
      say(text, self._stream)

  def note(self, text: str) -> None:
    """Prints lines that stay, above the live ones."""
    if self._active:
      say(f'{self._clear()}{text}', self._stream)

  def close(self) -> None:
    """Ends the live lines."""
    if self._shown:
      self._shown = 0
      say('', self._stream)

  def _clear(self) -> str:
    """What takes the cursor to the first of the live lines and clears them."""
    shown, self._shown = self._shown, 0
    up = f'\x1b[{shown - 1}A\x1b[J' if shown > 1 else '\x1b[K'
    return f'\r{up}' if shown else ''
