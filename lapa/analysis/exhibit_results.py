"""What can be looked at: tables of codes, and pictures and videos as files beside them."""

from typing import Literal

from lapa.analysis.records import Record, Source

AnalysisKind = Literal["atlas", "across", "scatter", "instructions", "rollout", "reconstruction"]


class MediaFile(Record):
    """A picture or a video in the analysis folder."""

    kind: AnalysisKind
    name: str
    """Unique in an analysis, such as `atlas-videos`."""
    file: str
    """Relative to the analysis folder."""
    media_type: Literal["image/png", "video/mp4"]
    width: int
    """Pixels."""
    height: int
    title: str
    caption: str
    """What is seen, and how to read it, in a few sentences."""
    alt: str
    """For those who cannot see it."""
    poster: str | None = None
    """Of a video: the file of a still picture that shows the same."""


class CodeMotion(Record):
    """Where one code moves things, in two chosen dimensions."""

    code: str
    """Such as `3` or `3·1`: the codes of all positions."""
    count: int
    mean: tuple[float, float]
    std: tuple[float, float]
    correlation: float


class Scatter(Record):
    """Mean motion of each latent action (or of each code at `position`) on a labelled dataset."""

    dataset: Source
    position: int | None
    """None: whole latent actions."""
    dimensions: tuple[str, str]
    codes: tuple[CodeMotion, ...]
    """The most frequent ones, in order."""
    num_pairs: int
    explained: tuple[float | None, float | None]
    """Share of each dimension's variance that lies between codes rather than within them, corrected for the number of
    codes (adjusted R2), over all codes."""


class Confusion(Record):
    """Which codes occur for which instructions."""

    dataset: Source
    rows_are: Literal["instruction", "verb"]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    """Codes, the most frequent first; `other` last where there are more."""
    counts: tuple[tuple[int, ...], ...]
    normalized_information: float
    """Mutual information of rows and whole latent actions over the rows' entropy, bias corrected, in [0, 1]."""
    by_chance: float
    """95th percentile of the same when instructions are dealt anew to the episodes."""


class Across(Record):
    """The same codes on several datasets."""

    datasets: tuple[Source, ...]
    codes: tuple[str, ...]
    """Those shown, the most shared ones first."""
    counts: dict[str, tuple[int, ...]]
    """Per code, on each dataset."""
    usage_overlap: float
    """1 when all datasets use the codes alike, 0 when no code is shared (1 - Jensen-Shannon divergence, over its
    maximum)."""
    motion_agreement: float | None
    """Mean cosine between the mean motions of a code on both datasets, weighted by use; None where fewer than two
    datasets have actions, or their dimensions have other names: the same motion is then written otherwise."""


class Rollout(Record):
    """The VLA picks codes from the imagined frame and the instruction, the decoder draws the next frame; repeated."""

    dataset: Source
    episode: str
    instruction: str
    window_seconds: float
    codes: tuple[str, ...]
    """Picked, one latent action per imagined frame."""
    true_codes: tuple[str, ...]
    """What the latent-action model calls the real episode's changes."""
    errors: tuple[float, ...]
    """Mean squared pixel error of each imagined frame against the real one. A policy may rightly do something else."""
    copy_errors: tuple[float, ...]
    """The same for staying at the first frame."""
    true_code_errors: tuple[float, ...] = ()
    """The same for drawing the true codes, frame upon imagined frame: what the decoder alone gets wrong."""
