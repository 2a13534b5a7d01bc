"""How many parameters each published size has."""

# The published figure, and the exact number of parameters that we count for it.
PUBLISHED = {
  # Table 3. One table serves source, target and output.
  'transformer:base': ('65M', 63_045_632),
  'transformer:big': ('213M', 214_171_648),
  # 117M is of the release; the paper has none. One table, 512 positions.
  'gpt1:base': ('117M', 116_534_784),
  # Section 3, and table 1 of Turc et al. 2019. Pooler and both heads included.
  'bert:base': ('110M', 110_106_428),
  'bert:large': ('340M', 336_226_108),
  'bert:base,vocabulary=cased': ('110M', 108_932_934),
  'bert:large,vocabulary=cased': ('340M', 334_661_958),
  'bert:2x128': ('4.4M', 4_433_468),
  'bert:mini': ('11.3M', 11_267_900),
  'bert:small': ('29.1M', 29_058_876),
  'bert:medium': ('41.7M', 41_668_412),
  # Table 2.
  'gpt2:small': ('117M', 124_439_808),
  'gpt2:medium': ('345M', 354_823_168),
  'gpt2:large': ('762M', 774_030_080),
  'gpt2:xl': ('1542M', 1_557_611_200),
  # The release. The head included; no pooler, no token types.
  'roberta:base': ('125M', 124_696_665),
  'roberta:large': ('355M', 355_411_033),
  # Section 3.7 of the paper. Version 1.1 has another table for the output.
  't5:size=small,version=1.0': ('60M', 60_506_624),
  't5:size=base,version=1.0': ('220M', 222_903_552),
  't5:size=large,version=1.0': ('770M', 737_668_096),
  't5:size=3b,version=1.0': ('2.8B', 2_851_598_336),
  't5:size=11b,version=1.0': ('11B', 11_307_321_344),
  't5:size=small,version=1.1': ('77M', 76_961_152),
  't5:size=base,version=1.1': ('250M', 247_577_856),
  't5:size=large,version=1.1': ('780M', 783_150_080),
  't5:size=3b,version=1.1': ('3B', 2_849_757_184),
  't5:size=11b,version=1.1': ('11B', 11_135_332_352),
  # Table 6. The discriminator, its tables and its head; not the generator.
  'electra:small': ('14M', 13_549_057),
  'electra:base': ('110M', 109_483_009),
  'electra:large': ('335M', 335_142_913),
  # Table 2.1. One table, 2048 positions.
  'gpt3:small': ('125M', 125_226_240),
  'gpt3:medium': ('350M', 355_871_744),
  'gpt3:large': ('760M', 760_300_032),
  'gpt3:xl': ('1.3B', 1_315_723_264),
  'gpt3:2.7b': ('2.7B', 2_651_553_280),
  'gpt3:6.7b': ('6.7B', 6_658_404_352),
  'gpt3:13b': ('13.0B', 12_853_386_240),
  'gpt3:175b': ('175B', 174_604_259_328),
  # Table 1.
  'jurassic:large': ('7.5B', 7_501_127_680),
  'jurassic:jumbo': ('178B', 177_866_855_424),
  # Table 1. Without the norms, as with Chinchilla.
  'gopher:44m': ('44M', 43_692_032),
  'gopher:117m': ('117M', 116_689_920),
  'gopher:417m': ('417M', 417_404_928),
  'gopher:1.4b': ('1.4B', 1_374_699_520),
  'gopher:7.1b': ('7.1B', 7_111_835_648),
  'gopher:280b': ('280B', 279_711_580_160),
  # Section 3, without the table ("non-embedding").
  'lamda:2b': ('2B', 2_097_207_040),
  'lamda:8b': ('8B', 8_590_071_808),
  'lamda:137b': ('137B', 137_440_014_336),
  'mt_nlg:530b': ('530B', 529_581_506_560),
  'chinchilla:70b': ('70B', 70_062_571_520),
  # Table 1. Without the norms.
  'palm:8b': ('8.63B', 8_631_877_632),
  'palm:62b': ('62.50B', 62_495_129_600),
  'palm:540b': ('540.35B', 540_354_281_472),
  # Section 4.3.1 and the model cards. Another table for the output.
  'ul2:20b': ('20B', 19_591_209_984),
  'ul2:20b,variant=flan': ('20B', 19_591_209_984),
  'yalm:100b': ('100B', 100_982_570_880),
  # The model cards. Another table for the output.
  'flan_t5:small': ('80M', 76_961_152),
  'flan_t5:base': ('250M', 247_577_856),
  'flan_t5:large': ('780M', 783_150_080),
  'flan_t5:xl': ('3B', 2_849_757_184),
  'flan_t5:xxl': ('11B', 11_135_332_352),
  # Table 3. The padding of the table included.
  'bloom:560m': ('559M', 559_214_592),
  'bloom:1.1b': ('1065M', 1_065_314_304),
  'bloom:1.7b': ('1722M', 1_722_408_960),
  'bloom:3b': ('3003M', 3_002_557_440),
  'bloom:7.1b': ('7069M', 7_069_016_064),
  'bloom:176b': ('176247M', 176_247_271_424),
  # Table 2 of the first paper, table 1 of the second, the model cards of 3.
  'llama:size=7b,version=1': ('6.7B', 6_738_415_616),
  'llama:size=13b,version=1': ('13.0B', 13_015_864_320),
  'llama:size=33b,version=1': ('32.5B', 32_528_943_616),
  'llama:size=65b,version=1': ('65.2B', 65_285_660_672),
  'llama:size=7b,version=2': ('7B', 6_738_415_616),
  'llama:size=13b,version=2': ('13B', 13_015_864_320),
  'llama:size=34b,version=2': ('34B', 33_743_970_304),
  'llama:size=70b,version=2': ('70B', 68_976_648_192),
  'llama:size=8b,version=3': ('8B', 8_030_261_248),
  'llama:size=70b,version=3': ('70B', 70_553_706_496),
  'llama:size=405b,version=3': ('405B', 405_853_388_800),
  'llama:size=8b,version=3.1': ('8B', 8_030_261_248),
  'llama:size=70b,version=3.1': ('70B', 70_553_706_496),
  'llama:size=405b,version=3.1': ('405B', 405_853_388_800),
  # The paper's table of models; both tables included.
  'rwkv:169m': ('169.3M', 169_342_464),
  'rwkv:430m': ('430.4M', 430_397_440),
  'rwkv:1.5b': ('1.515B', 1_515_106_304),
  'rwkv:3b': ('2.985B', 2_984_627_200),
  'rwkv:7b': ('7.393B', 7_392_649_216),
  'rwkv:14b': ('14.15B', 14_148_597_760),
}
