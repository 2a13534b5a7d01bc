"""The colours of the tree, which colour-blind readers can tell apart."""

# role: on a light ground, on a dark one.
COLOURS = {
  'encoder-only': ('#a33c72', '#f08cbb'),
  'encoder-decoder': ('#23755a', '#5fc79f'),
  'decoder-only': ('#2b5c9e', '#82b4f5'),
  'recurrent': ('#a04f12', '#eda35c'),
  'undisclosed': ('#6c7077', '#9ba1ab'),
  'trunk': ('#7a6a58', '#a8967f'),
  'ink': ('#23262b', '#e4e6ea'),
  'faint': ('#5d6269', '#a4aab3'),  # years, what is less important
  'paper': ('#ffffff', '#15181c'),
  'rule': ('#dcdfe4', '#343a42'),
}
SHADE = 0.07  # how much of its colour the ground of a branch has
