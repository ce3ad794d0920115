"""A tiny plugin of nasty tasks, and the processes that tests of the keeper end. See `tasks`."""
