"""Everything that runs on the mesh: state, steps, the loop, its programs."""

from configs import interrupt

interrupt.watch_imports()
