"""Everything that runs on the mesh: state, steps, the loop, its programs."""

from configs import interrupt, memory

interrupt.watch_imports()
memory.check_limit()
