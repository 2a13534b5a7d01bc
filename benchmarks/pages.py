"""The pages of experiments: docs/reports has one of each."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from input_pipeline.sources import paths
from train.comparing import page, runs

PLACE = Path(__file__).resolve().parent.parent / 'docs' / 'reports'


def write(
  out: str,
  folders: Sequence[Path],
  title: str,
  samples: Mapping[str, Sequence[str]] | None = None,
) -> None:
  """The page that `train.report` makes of some runs; '' writes none.

  Args:
    out: the page's path.
    folders: of the runs.
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
  paths.write(out, page.build(found, title).html.encode())
  print(f'Wrote {out}')
