"""What the probes of a latent-action model find: numbers with their intervals.

R2 is 1 for a perfect prediction, 0 for always answering the mean, and may be negative. Information is in bits.
None stands for a number that does not exist, such as R2 of an action dimension that never varies.
"""

from typing import Literal

from lapa.analysis.records import Record, Score, Source

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


LEAKS = 0.2
"""Share of the codes' entropy from which camera and light are said to pour into them."""


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
