"""Everything that runs on the mesh: state, steps, the loop, its programs."""
