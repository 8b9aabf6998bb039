"""What faces HTTP: the data plane and the site."""
