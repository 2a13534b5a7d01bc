"""`python -m models.pretrained`: hands over to the command train.pretrained.

It reads and writes workdirs, which only `train` knows; nothing imports it.
"""

import runpy

from configs.commands import startup

if __name__ == '__main__':
  startup.begin()
  runpy.run_module('train.pretrained', run_name='__main__', alter_sys=True)
