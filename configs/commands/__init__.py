"""What all commands share: flags, mistakes, Ctrl-C, memory, the terminal."""
