"""`python -m models.pretrained`: a command, which hands over to train's.

It reads and writes workdirs, which only `train` knows; nothing imports this.
"""

import runpy

if __name__ == '__main__':
  runpy.run_module('train.pretrained', run_name='__main__', alter_sys=True)
