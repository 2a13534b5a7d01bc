"""Runs side by side on one page: curves, results, what differs, speed.

  python -m train.report DIR --out=report.html
  python -m train.report W1 W2 W3 --out=report.html
  python -m train.report DIR --watch

W1 ... are workdirs; DIR has some below it, such as those of a sweep. The page
needs no network, and its curves lie beside it as PNGs. It has the curves of all
runs over steps, tokens, FLOPs and hours; the keys in which configs differ;
means over seeds, with tests; throughput, MFU, goodput and restarts; samples;
commits, versions and the data's fingerprints. Runs may be under way: --watch
serves the page to browsers on this machine, and makes it again as they go on.
"""

from configs.commands import startup

if __name__ == '__main__':
  startup.begin()

import os
from collections.abc import Sequence

from absl import flags

from configs.commands import command, terminal
from configs.commands.command import UserError
from input_pipeline.sources import paths
from train.comparing import page, runs, serving

EVERY = 15  # seconds after which --watch makes the page again


def report(
  places: Sequence[str], title: str = '', smooth: int = 0, refresh: int = 0
) -> page.Report:
  """The report of the runs at or below some folders; see `page.build`.

  Raises:
    ValueError: a folder does not exist, or no run is there.
    NotComparableError: the runs' numbers have different units.
  """
  found = runs.read_all(runs.find(places))
  for run in found:
    if run.state == runs.UNREADABLE and not refresh:
      terminal.warn(f'{run.folder} is left out: {run.note}')
  return page.build(found, title or _title(places), smooth, refresh)


def write(made: page.Report, out: str) -> list[str]:
  """Writes the page and its PNGs, each whole or not at all; their paths."""
  stem = os.path.splitext(out)[0]
  written = {f'{stem}.{name}': data for name, data in made.pngs.items()}
  written[out] = made.html.encode()
  for path, data in written.items():
    paths.write(path, data)
  return [out, *sorted(written.keys() - {out})]


def watch(places: Sequence[str], title: str, smooth: int, port: int) -> None:
  """Serves the report until Ctrl-C."""

  def make():
    try:
      return report(places, title, smooth, EVERY)
    except (ValueError, OSError, UserError) as error:  # may pass as runs go on
      text = page.message(title or _title(places), str(error), EVERY)
      return page.Report(text, {})

  with serving.server(serving.Newest(make, EVERY), port) as server:
    terminal.say(
      f'http://{serving.HOST}:{server.server_port}/ has the report; browsers '
      f'load it again every {EVERY} s. Ctrl-C ends this.'
    )
    server.serve_forever()


def _title(places):
  path = paths.absolute(places[0])
  if len(places) > 1 and not paths.is_remote(path):
    path = os.path.commonpath(map(paths.absolute, places))
  return os.path.basename(path) or 'Runs'


def main(places: list[str]) -> None:
  if not places:
    raise UserError(
      'Name workdirs, or a folder that has some: python -m train.report DIR '
      '--out=report.html'
    )
  if not (_OUT.value or _WATCH.value):
    raise UserError(
      'Give --out=FILE.html to write the report, or --watch to serve it.'
    )
  if _OUT.value and not _OUT.value.endswith('.html'):
    raise UserError(f'--out={_OUT.value} must end in .html.')
  if _OUT.value:
    made = report(places, _TITLE.value, _SMOOTH.value)
    terminal.say(f'Wrote {", ".join(write(made, _OUT.value))}.')
  if _WATCH.value:
    watch(places, _TITLE.value, _SMOOTH.value, _PORT.value)


if __name__ == '__main__':
  _OUT = flags.DEFINE_string(
    'out', '', 'The page to write, FILE.html; FILE.NAME.png are its curves.'
  )
  _TITLE = flags.DEFINE_string('title', '', "Default: the folder's name.")
  _SMOOTH = flags.DEFINE_integer(
    'smooth', 0, 'Steps over which the training loss is averaged; 1: none; 0: '
    'a hundredth of the longest run.', lower_bound=0,
  )  # fmt: skip
  _WATCH = flags.DEFINE_bool(
    'watch', False, 'Serve the page to browsers on this machine.'
  )
  _PORT = flags.DEFINE_integer(
    'port', 8321, 'Of --watch; 0: any that is free.', lower_bound=0,
    upper_bound=65535,
  )  # fmt: skip
  command.run_words(main)
