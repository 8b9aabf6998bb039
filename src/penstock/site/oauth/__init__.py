"""Sign-in through GitHub, Google or another OpenID provider."""
