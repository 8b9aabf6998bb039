"""Estimates of how many tokens a request has, where no provider can be asked."""
