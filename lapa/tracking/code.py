"""Which code this process runs: the commit of its checkout, or what its image says of itself."""

import os
import shutil
import subprocess
from pathlib import Path

COMMIT_VARIABLE = "LAPA_COMMIT"
"""Set in the images (docker/train.Dockerfile), which hold no checkout."""
IMAGE_VARIABLE = "LAPA_IMAGE"
"""Set by whoever starts the container (`lapactl submit`): it is named by digest where the profile names it so."""
COMMIT_TAG, IMAGE_TAG = "lapa.commit", "lapa.image"
UNKNOWN = "unknown"


def code_tags() -> dict[str, str]:
    """For runs, models and results; what is not known is left out."""
    found = {COMMIT_TAG: commit(), IMAGE_TAG: os.environ.get(IMAGE_VARIABLE, "")}
    return {name: value for name, value in found.items() if value not in ("", UNKNOWN)}


def commit() -> str:
    """Of the image, or of the checkout that the library lies in; `unknown` for a package that is installed."""
    if named := os.environ.get(COMMIT_VARIABLE):
        return named
    git = shutil.which("git")
    if git is None:
        return UNKNOWN
    folder = str(Path(__file__).parent)
    done = subprocess.run(
        [git, "-C", folder, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False
    )
    # An environment may lie inside the checkout of another project, whose commit says nothing of us.
    tracked = subprocess.run(
        [git, "-C", folder, "ls-files", "--error-unmatch", Path(__file__).name], capture_output=True, check=False
    )
    if done.returncode or tracked.returncode:
        return UNKNOWN
    changes = subprocess.run(
        [git, "-C", folder, "status", "--porcelain", "--untracked-files=no", ".."],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip() + (" with local changes" if changes.stdout.strip() else "")
