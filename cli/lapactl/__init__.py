"""`lapactl`: the command that composes the library."""
