"""What learns: the step, its state, criteria, schedules and optimizers."""
