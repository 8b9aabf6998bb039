"""The commands of the command line, by subject; ``cli.py`` loads the one that is called."""
