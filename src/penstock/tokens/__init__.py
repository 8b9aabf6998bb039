"""Token estimates, where no provider can be asked."""
