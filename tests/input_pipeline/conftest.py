"""A corpus of JSON files, and its opened data, for tests of several folders."""

import pytest

from tests.helpers import corpora
from tests.helpers.corpora import VOCABULARY, json_config, open_data


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  return corpora.make(tmp_path_factory.mktemp('corpus'))


@pytest.fixture(scope='module')
def workdir(corpus, tmp_path_factory):
  return corpora.make_workdir(corpus, tmp_path_factory.mktemp('workdir'))


@pytest.fixture
def data(corpus, workdir):
  return open_data(
    json_config(corpus), seed=5, vocab_size=VOCABULARY, workdir=workdir
  )
