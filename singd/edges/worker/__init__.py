"""The keeper process and the warm workers, and the executors that use them."""
