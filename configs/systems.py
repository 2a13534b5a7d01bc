"""The systems, NAME[:ARG] -> System: NAME is a file of this folder."""

from typing import NamedTuple

ENCODER, PAIR = 'encoder-only', 'encoder-decoder'
DECODER, RECURRENT = 'decoder-only', 'recurrent'


class System(NamedTuple):
  """What the configs do not say about a system."""

  name: str
  year: int  # of the paper; without a paper, of the announcement
  month: int
  organisation: str
  branch: str
  open: bool  # whether the weights are published
  paper: str


# The oldest first. The first system of a file descends from its ANCESTOR. A
# later one, which has KEY=VALUE in its ARG, descends from the one before it.
# fmt: off
SYSTEMS = {
  'transformer': System(
    'Transformer', 2017, 6, 'Google', PAIR, True, 'arXiv:1706.03762'),
  'gpt1': System(
    'GPT-1', 2018, 6, 'OpenAI', DECODER, True, 'Radford et al. 2018'),
  'bert': System(
    'BERT', 2018, 10, 'Google', ENCODER, True, 'arXiv:1810.04805'),
  'gpt2': System(
    'GPT-2', 2019, 2, 'OpenAI', DECODER, True, 'Radford et al. 2019'),
  'roberta': System(
    'RoBERTa', 2019, 7, 'Facebook', ENCODER, True, 'arXiv:1907.11692'),
  't5': System(
    'T5', 2019, 10, 'Google', PAIR, True, 'arXiv:1910.10683'),
  'electra': System(
    'ELECTRA', 2020, 3, 'Stanford, Google', ENCODER, True, 'arXiv:2003.10555'),
  'gpt3': System(
    'GPT-3', 2020, 5, 'OpenAI', DECODER, False, 'arXiv:2005.14165'),
  'jurassic': System(
    'Jurassic-1', 2021, 8, 'AI21 Labs', DECODER, False, 'Lieber et al. 2021'),
  'gopher': System(
    'Gopher', 2021, 12, 'DeepMind', DECODER, False, 'arXiv:2112.11446'),
  'lamda': System(
    'LaMDA', 2022, 1, 'Google', DECODER, False, 'arXiv:2201.08239'),
  'mt_nlg': System(
    'MT-NLG', 2022, 1, 'Microsoft, NVIDIA', DECODER, False, 'arXiv:2201.11990'),
  'chinchilla': System(
    'Chinchilla', 2022, 3, 'DeepMind', DECODER, False, 'arXiv:2203.15556'),
  'palm': System(
    'PaLM', 2022, 4, 'Google', DECODER, False, 'arXiv:2204.02311'),
  'ul2': System(
    'UL2', 2022, 5, 'Google', PAIR, True, 'arXiv:2205.05131'),
  'yalm': System(
    'YaLM', 2022, 6, 'Yandex', DECODER, True, 'github.com/yandex/YaLM-100B'),
  'flan_t5': System(
    'FLAN-T5', 2022, 10, 'Google', PAIR, True, 'arXiv:2210.11416'),
  'bloom': System(
    'BLOOM', 2022, 11, 'BigScience', DECODER, True, 'arXiv:2211.05100'),
  'llama': System(
    'LLaMA', 2023, 2, 'Meta', DECODER, True, 'arXiv:2302.13971'),
  'ul2:variant=flan': System(
    'FLAN-UL2', 2023, 3, 'Google', PAIR, True, 'announcement'),
  'bard': System(
    'Bard', 2023, 3, 'Google', DECODER, False, 'announcement'),
  'gpt4': System(
    'GPT-4', 2023, 3, 'OpenAI', DECODER, False, 'arXiv:2303.08774'),
  'jurassic2': System(
    'Jurassic-2', 2023, 3, 'AI21 Labs', DECODER, False, 'announcement'),
  'palm2': System(
    'PaLM 2', 2023, 5, 'Google', DECODER, False, 'arXiv:2305.10403'),
  'rwkv': System(
    'RWKV-4', 2023, 5, 'RWKV Foundation', RECURRENT, True, 'arXiv:2305.13048'),
  'llama:version=2': System(
    'LLaMA 2', 2023, 7, 'Meta', DECODER, True, 'arXiv:2307.09288'),
  'llama:8b,version=3': System(
    'LLaMA 3', 2024, 4, 'Meta', DECODER, True, 'announcement'),
  'llama:8b,version=3.1': System(
    'LLaMA 3.1', 2024, 7, 'Meta', DECODER, True, 'arXiv:2407.21783'),
}
# fmt: on
