SELECT startup_at FROM leader WHERE epoch = %(epoch)s
