"""What the analyses of a latent-action model find: plain numbers, tables, and pictures as files beside them.

Data alone: read and written without torch, so that commands and the report need nothing of what computes it.
R2 is 1 for a perfect prediction, 0 for always answering the mean, and may be negative. Information is in bits.
None stands for a number that does not exist, such as R2 of an action dimension that never varies.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from lapa import files

ANALYSIS_FILE = "analysis.json"
"""Written last into the folder `analysis-<digest10>`: the analysis is complete when it is there."""
SCHEMA_VERSION: Literal[2] = 2

AnalysisKind = Literal["atlas", "across", "scatter", "instructions", "rollout", "reconstruction"]
Features = Literal["codes", "joint", "vectors"]
"""`codes`: which code stands at each position, one indicator each, added up; `joint`: also which whole latent
action it is; `vectors`: the latents before quantization."""
Probe = Literal["linear", "mlp"]
Target = Literal["actions", "relative", "absolute"]
"""`actions`: the sum of the recorded actions between both frames. From proprioception, where there is some:
`relative` is state(t + window) - state(t), how far it moved; `absolute` is state(t + window), where it ended.
Latent actions should tell the first two; telling the third means that they hold the place, not the motion."""
Condition = Literal["held-out", "shuffled-pairs", "shuffled-time"]
"""`held-out`: other episodes than the probe was fitted on. Controls, scored on the same episodes:
`shuffled-pairs` gives every frame pair the motion of any other one: what chance explains. `shuffled-time` gives it
that of another time in its own episode: what is known from the episode alone (its scene, its instruction)."""


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(Record):
    """A model or dataset, named by its content."""

    url: str
    digest: str
    """Of a dataset: its revision."""
    name: str = ""
    """Short, for captions: the embodiment, or the folder's name."""


class Score(Record):
    """R2 with its interval: a bootstrap over the scored episodes."""

    r2: float | None
    low: float | None = None
    high: float | None = None


class ProbeScore(Record):
    """How well a map fitted on some episodes tells true motion from latents on other ones."""

    features: Features
    probe: Probe
    target: Target
    condition: Condition = "held-out"
    mean: Score
    """Over the dimensions that vary, each counting alike."""
    dimensions: dict[str, Score]
    """By the dimension's name, in the order of the dataset."""


class TransferScore(Record):
    """A probe taken to another dataset. Both have the same dimensions of motion."""

    target: Target
    features: Features
    probe: Probe
    transferred: Score
    """Fitted on the probed dataset, scored on the other one as it is."""
    realigned: Score
    """The same, after one linear map between the motions: other units, other axes and a mirrored body are forgiven."""
    refitted: Score
    """Fitted and scored on the other dataset, on episodes apart: what its codes tell at best."""
    dimensions: dict[str, Score]
    """Of `transferred`."""


class Transfer(Record):
    """The same model's codes on another embodiment or dataset."""

    dataset: Source
    num_fit_pairs: int
    num_scored_pairs: int
    scores: tuple[TransferScore, ...]
    note: str = ""
    """Why there are no scores, where there are none."""


class Information(Record):
    """How many bits of the discretized motion the codes tell."""

    codes: str
    """`joint` (the whole latent action) or `position 0`, `position 1`, …"""
    about: str
    """A dimension's name, or `all` (clusters over all dimensions)."""
    bits: float
    """Mutual information, less its bias from a finite sample (Miller and Madow)."""
    bits_uncorrected: float
    bits_by_chance: float
    """95th percentile where codes are put out of step with the motion; `bits` below it means nothing was found.
    Corrected the same way."""
    entropy: float
    """Of the motion: the most that any code could tell."""
    code_entropy: float
    """Of the codes: the most that they could tell about anything."""


class CameraLeakage(Record):
    """How much of the codes tells of what no action does: the whole picture's motion, and its brightness.

    Both are estimated from the frames: one translation, in shares of the side, and one factor of brightness per pair.
    """

    global_motion: dict[str, Score]
    """`right`, `down` and `brighter`, each predicted from the codes; None where it does not vary."""
    spread: dict[str, float]
    """Standard deviation of each: shares of the image's side, and of the brightness."""
    moves: bool
    """Whether there is any global change to leak: otherwise the scores mean little."""
    code_share: float | None
    """Share of the codes' entropy that global motion explains, bias corrected, in [0, 1]; None without codes."""
    action_share: float | None
    """The same share for the true actions; None without actions."""
    actions_from_camera: Score | None
    """R2 of the actions from global motion alone: a moving camera may move because of actions."""
    actions_from_both: Score | None
    """From global motion and codes: what it adds to the line above is the codes' own."""
    actions_from_codes: Score | None


class Reconstruction(Record):
    """Mean squared pixel error of the future frame, in [0, 1], of one way to predict it. Held-out frame pairs."""

    name: Literal["codes", "copy", "constant-code", "shuffled-codes", "withheld"]
    """`codes`: the decoder with the pair's own hard codes. `copy`: the first frame as it is. `constant-code`: the
    decoder with one latent action for all pairs, the best of the frequent ones, a cheap stand-in for `withheld`.
    `shuffled-codes`: the decoder with another pair's codes. `withheld`: a model trained without codes, the floor."""
    error: float
    low: float
    high: float
    of_copy: float
    """Error as a share of `copy`'s."""


class CodeUsage(Record):
    codebook_size: int
    codes_per_pair: int
    perplexity: tuple[float, ...]
    """Per position, of at most `codebook_size`."""
    joint_perplexity: float
    joint_used: int
    """Different latent actions seen, of `codebook_size ** codes_per_pair`."""
    num_pairs: int


class ProbeReport(Record):
    """`lapactl probe`: does a latent-action model's code mean motion on this dataset?"""

    model: Source
    dataset: Source
    window_seconds: float
    windows: tuple[int, ...]
    """Timesteps; several where frame rates differ."""
    num_fit_episodes: int
    num_scored_episodes: int
    num_fit_pairs: int
    num_scored_pairs: int
    usage: CodeUsage | None
    """None when latents are continuous."""
    scores: tuple[ProbeScore, ...]
    information: tuple[Information, ...]
    camera: CameraLeakage | None
    reconstruction: tuple[Reconstruction, ...]
    transfer: Transfer | None = None
    messages: tuple[str, ...] = ()
    """Verdicts in words, the most important first."""

    def score(
        self, features: Features, probe: Probe = "linear", target: Target = "actions", condition: Condition = "held-out"
    ) -> ProbeScore | None:
        wanted = (features, probe, target, condition)
        return next((s for s in self.scores if (s.features, s.probe, s.target, s.condition) == wanted), None)


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


class AnalysisResult(Record):
    """Everything found about one run's latent-action model, as the report shows it."""

    schema_version: Literal[2] = SCHEMA_VERSION
    digest: str
    """Of the settings and of the content of every input; the folder carries its first ten characters."""
    folder: str
    name: str
    """Of the run or model."""
    model: Source
    policy: Source | None = None
    """The pretrained VLA of the rollout."""
    datasets: dict[str, Source]
    """By role: `videos`, `robot`, or the name given on the command line."""
    settings: dict[str, str | int | float | bool | None] = {}
    probes: dict[str, ProbeReport] = {}
    """By role of the dataset."""
    scatters: tuple[Scatter, ...] = ()
    confusions: tuple[Confusion, ...] = ()
    across: Across | None = None
    rollouts: tuple[Rollout, ...] = ()
    media: tuple[MediaFile, ...] = ()
    skipped: dict[str, str] = {}
    """Analysis -> why it is missing, in words for people."""
    seconds: float = 0.0
    finished: str = ""

    def media_of(self, kind: AnalysisKind) -> tuple[MediaFile, ...]:
        return tuple(item for item in self.media if item.kind == kind)


def read_analysis(folder: str) -> AnalysisResult | None:
    """The analysis in a folder, or None where none was finished or another version wrote it."""
    url = files.join(folder, ANALYSIS_FILE)
    if not files.exists(url):
        return None
    value = files.read_json(url)
    if value.get("schema_version") != SCHEMA_VERSION:
        return None
    return AnalysisResult.model_validate(value)


def write_analysis(result: AnalysisResult) -> None:
    files.write_json(files.join(result.folder, ANALYSIS_FILE), result.model_dump(mode="json"))
