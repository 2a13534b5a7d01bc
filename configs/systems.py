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
  # What its config changes in its ancestor's, in few words, for the picture;
  # '' for a root. tests/configs/test_systems.py says which key is which word.
  changed: str = ''


UNDISCLOSED = 'undisclosed'  # no config was published

# The oldest first. The first system of a file descends from its ANCESTOR. A
# later one, which has KEY=VALUE in its ARG, descends from the one before it.
# fmt: off
SYSTEMS = {
  'transformer': System(
    'Transformer', 2017, 6, 'Google', PAIR, True, 'arXiv:1706.03762'),
  'gpt1': System(
    'GPT-1', 2018, 6, 'OpenAI', DECODER, True, 'Radford et al. 2018',
    'causal, learned positions'),
  'bert': System(
    'BERT', 2018, 10, 'Google', ENCODER, True, 'arXiv:1810.04805',
    'masked tokens, next sentence'),
  'gpt2': System(
    'GPT-2', 2019, 2, 'OpenAI', DECODER, True, 'Radford et al. 2019',
    'pre-norm, byte BPE'),
  'roberta': System(
    'RoBERTa', 2019, 7, 'Facebook', ENCODER, True, 'arXiv:1907.11692',
    'no next sentence, batches of 8k'),
  't5': System(
    'T5', 2019, 10, 'Google', PAIR, True, 'arXiv:1910.10683',
    'RMSNorm, relative bias, Adafactor'),
  'electra': System(
    'ELECTRA', 2020, 3, 'Stanford, Google', ENCODER, True, 'arXiv:2003.10555',
    'replaced tokens'),
  'gpt3': System(
    'GPT-3', 2020, 5, 'OpenAI', DECODER, False, 'arXiv:2005.14165',
    'banded attention, 2k context'),
  'jurassic': System(
    'Jurassic-1', 2021, 8, 'AI21 Labs', DECODER, False, 'Lieber et al. 2021',
    'dense attention, 256k vocabulary'),
  'gopher': System(
    'Gopher', 2021, 12, 'DeepMind', DECODER, False, 'arXiv:2112.11446',
    'RMSNorm, Transformer-XL positions'),
  'lamda': System(
    'LaMDA', 2022, 1, 'Google', DECODER, False, 'arXiv:2201.08239',
    'gated MLP, relative bias, Adafactor'),
  'mt_nlg': System(
    'MT-NLG', 2022, 1, 'Microsoft, NVIDIA', DECODER, False, 'arXiv:2201.11990',
    'dense attention, 105 layers'),
  'chinchilla': System(
    'Chinchilla', 2022, 3, 'DeepMind', DECODER, False, 'arXiv:2203.15556',
    'half as wide, 1.4T tokens'),
  'palm': System(
    'PaLM', 2022, 4, 'Google', DECODER, False, 'arXiv:2204.02311',
    'RoPE, SwiGLU, parallel blocks, multi-query, Adafactor'),
  'ul2': System(
    'UL2', 2022, 5, 'Google', PAIR, True, 'arXiv:2205.05131',
    'mixture of denoisers, SwiGLU'),
  'yalm': System(
    'YaLM', 2022, 6, 'Yandex', DECODER, True, 'github.com/yandex/YaLM-100B',
    'RoPE, gated MLP, embedding norm'),
  'flan_t5': System(
    'FLAN-T5', 2022, 10, 'Google', PAIR, True, 'arXiv:2210.11416',
    'instructions, 2k inputs'),
  'bloom': System(
    'BLOOM', 2022, 11, 'BigScience', DECODER, True, 'arXiv:2211.05100',
    'ALiBi, embedding norm, 251k vocabulary'),
  'llama': System(
    'LLaMA', 2023, 2, 'Meta', DECODER, True, 'arXiv:2302.13971',
    'RMSNorm, serial blocks, AdamW'),
  'ul2:variant=flan': System(
    'FLAN-UL2', 2023, 3, 'Google', PAIR, True, 'announcement',
    'instructions'),
  'bard': System(
    'Bard', 2023, 3, 'Google', DECODER, False, 'announcement',
    UNDISCLOSED),
  'gpt4': System(
    'GPT-4', 2023, 3, 'OpenAI', DECODER, False, 'arXiv:2303.08774',
    UNDISCLOSED),
  'jurassic2': System(
    'Jurassic-2', 2023, 3, 'AI21 Labs', DECODER, False, 'announcement',
    UNDISCLOSED),
  'palm2': System(
    'PaLM 2', 2023, 5, 'Google', DECODER, False, 'arXiv:2305.10403',
    UNDISCLOSED),
  'rwkv': System(
    'RWKV-4', 2023, 5, 'RWKV Foundation', RECURRENT, True, 'arXiv:2305.13048'),
  'llama:version=2': System(
    'LLaMA 2', 2023, 7, 'Meta', DECODER, True, 'arXiv:2307.09288',
    '4k context, 2T tokens'),
  'llama:8b,version=3': System(
    'LLaMA 3', 2024, 4, 'Meta', DECODER, True, 'announcement',
    'grouped queries, 128k vocabulary'),
  'llama:8b,version=3.1': System(
    'LLaMA 3.1', 2024, 7, 'Meta', DECODER, True, 'arXiv:2407.21783',
    'scaled RoPE, 128k context'),
}
# fmt: on
