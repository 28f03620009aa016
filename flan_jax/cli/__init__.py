"""The verbs of the command line: a module each, whose `run` returns the exit code."""
