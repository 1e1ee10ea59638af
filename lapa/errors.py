"""Everything a user can run into, as one tree.

    LapaError
    ├── ConfigError            a setting is unknown, impossible or contradictory
    ├── DataError              a source, dataset or label file is not what it should be
    │   ├── SourceError        one source file or record cannot be read
    │   ├── TooManyFailures    more sources failed than the run tolerates
    │   ├── AccessRefused      an object store or file system does not let us
    │   ├── DatasetNotFound    no complete dataset at this URL
    │   ├── LabelMismatch      labels were made from another dataset, window or model
    │   ├── ConventionMismatch datasets, models or robots mean different things by the same numbers
    │   └── LicenceForbids     a dataset's licence does not allow what the run is for
    ├── NotMadeYet             a stage needs what an earlier one has not made yet
    ├── CheckpointError
    │   ├── CheckpointMismatch a checkpoint holds another model than the run asks for
    │   └── CheckpointNotFound nothing complete to load at this URL
    ├── TrainingError
    │   ├── CodebookCollapsed  the latent-action model names every change alike
    │   └── LossNotFinite      the loss became NaN or infinite
    ├── PolicyError            a bundle is damaged, or an action leaves its bounds
    ├── TrackingError          the tracking server refused, or stayed away too long
    │   └── NotRegistered      the registry has no such model, alias or version
    ├── PromotionRefused       a gate failed, so nothing was promoted
    ├── PromotionConflict      another promotion came first, so nothing was promoted
    ├── ServingError           a policy server cannot start, stayed away, or refused a request
    └── MissingDependency      an optional package or system library is not installed

A message carries the value, the rule and the next move. Each class names the exit code that
``python -m lapa`` and ``lapactl`` end with.
"""


class LapaError(Exception):
    """Base of every error a user is meant to read."""

    exit_code = 1


class ConfigError(LapaError):
    """A setting is unknown, impossible or contradictory."""

    exit_code = 2


class DataError(LapaError):
    """A source, dataset or label file is not what it should be."""

    exit_code = 3


class SourceError(DataError):
    """One source file or record cannot be read; ingest counts it and goes on."""


class TooManyFailures(DataError):
    """More sources failed than the run tolerates."""


class AccessRefused(DataError, PermissionError):
    """An object store or file system does not let us read or write there."""


class DatasetNotFound(DataError):
    """No complete dataset at this URL."""


class LabelMismatch(DataError):
    """Labels were made from another dataset, window or model than this run uses."""


class ConventionMismatch(DataError):
    """Datasets, models or robots mean different things by the same numbers."""


class LicenceForbids(DataError):
    """A dataset's licence does not allow what the run is for."""


class NotMadeYet(LapaError):
    """A stage needs what an earlier one has not made yet."""

    exit_code = 3


class CheckpointError(LapaError):
    """A checkpoint cannot be used."""

    exit_code = 4


class CheckpointMismatch(CheckpointError):
    """A checkpoint holds another model than the run asks for."""


class CheckpointNotFound(CheckpointError):
    """Nothing complete to load at this URL."""


class TrainingError(LapaError):
    """Training cannot go on."""

    exit_code = 5


class CodebookCollapsed(TrainingError):
    """The latent-action model names every change alike."""


class LossNotFinite(TrainingError):
    """The loss became NaN or infinite."""


class PolicyError(LapaError):
    """A policy bundle is damaged, or an action leaves its bounds."""

    exit_code = 6


class TrackingError(LapaError):
    """The tracking server refused a request, or stayed away for too long."""

    exit_code = 7


class NotRegistered(TrackingError):
    """The registry answers, and has no model, alias or version of that name."""

    exit_code = 26
    """Asking again changes nothing, so not 7; the code is that of any name that is not there (`lapa_k8s.errors`)."""


class MissingDependency(LapaError):
    """An optional package or system library is not installed."""

    exit_code = 8


class ServingError(LapaError):
    """A policy server cannot start, stayed away for too long, or refused a request."""

    exit_code = 9


class PromotionRefused(LapaError):
    """A gate failed, or an approval is missing; no alias was moved."""

    exit_code = 10


class PromotionConflict(LapaError):
    """Another promotion came first; no alias was moved."""

    exit_code = 11


RESTART_EXIT_CODE = 75
"""What a stage exits with after SIGTERM, its step saved: run the same command again (``EX_TEMPFAIL``)."""
