"""All tables of the papers, by name."""

from configs.papers import (
  bert,
  electra,
  gpt1,
  lamb,
  prompted,
  roberta,
  sizes,
  t5,
  t5_scale,
  ul2,
  wang,
)

TABLES = {
  table.name: table
  for paper in (
    *(t5, t5_scale, bert, roberta, electra, gpt1, lamb, ul2, wang, sizes),
    prompted,
  )
  for table in paper.TABLES
}
