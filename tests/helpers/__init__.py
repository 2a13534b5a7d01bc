"""What several tests share: corpora, small models, references, programs."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
