SELECT wait_for_lock(%(key)s)
