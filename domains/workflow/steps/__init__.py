"""What each kind of step does: given the run, the step's id and its fields, it gives a result."""
