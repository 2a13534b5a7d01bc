"""The model of a config."""

import flax.linen as nn

from models.config import TransformerConfig
from models.families.decoder import Decoder
from models.families.electra import Electra
from models.families.encoder import Encoder
from models.families.encoder_decoder import EncoderDecoder
from models.families.rwkv import Rwkv


def build(config: TransformerConfig) -> nn.Module:
  """The module of `config.family`; its `init` makes the parameters."""
  match config.family:
    case 'encoder':
      return Encoder(config)
    case 'decoder':
      return Decoder(config)
    case 'encoder_decoder':
      return EncoderDecoder(config)
    case 'electra':
      return Electra(config)
    case 'rwkv':
      return Rwkv(config)
  raise ValueError(f'model.family: {config.family!r} is unknown.')
