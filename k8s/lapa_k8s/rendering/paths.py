"""Where things lie inside a pod. The root file system is read-only: everything written goes to one of these."""

HOME = "/home/lapa"
SCRATCH = "/scratch"
CONFIG_FOLDER = "/etc/lapa"
CONFIG_FILE = "run.yaml"
"""Key of the ConfigMap, and so the file's name."""
RUN_FILE = f"{CONFIG_FOLDER}/{CONFIG_FILE}"
