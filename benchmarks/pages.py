"""The pages of experiments: docs/reports has one of each."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from input_pipeline.sources import paths
from train.comparing import page, runs

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / 'docs' / 'reports'


def write(
  out: str,
  folders: Sequence[Path],
  title: str,
  samples: Mapping[str, Sequence[str]] | None = None,
) -> None:
  """The page that `train.report` makes of some runs; '' writes none.

  It names no place of this machine: the folder of the runs is W.

  Args:
    out: the page's path.
    folders: of the runs, which lie in one.
    title: of the page.
    samples: name of a folder -> what its model writes, if the run has none.
  """
  if not out:
    return
  found = runs.read_all(runs.find([str(folder) for folder in folders]))
  for run in found:
    own = (samples or {}).get(Path(run.folder).name)
    if own:
      run.samples = {run.step: '\n'.join(own)}
  text = page.build(found, title).html
  here = {folders[0].resolve().parent: 'W', ROOT: '.'}
  here |= {Path(os.environ.get('TREELINE_DATA') or '/nowhere'): 'DATA'}
  for place, name in here.items():
    text = text.replace(str(place), name)
  Path(out).parent.mkdir(parents=True, exist_ok=True)
  paths.write(out, text.encode())
  print(f'Wrote {out}')
