"""Everything that can go wrong between a command and a cluster, as one tree.

    ClusterError                  20  the API refused for a reason that none below names
    ├── ClusterUnreachable        21  no kubeconfig, no such context, or nobody answers there
    ├── AccessDenied              22  not logged in, or not allowed (401, 403)
    ├── KindNotServed             23  the cluster does not know this kind of job: its operator is not installed
    ├── NameTaken                 24  something else has the job's name (409)
    ├── QuotaExceeded             25  the namespace's quota has no room (403 "exceeded quota"), or the queue never will
    ├── NotFound                  26  no such job, pod or namespace (404)
    ├── ManifestRefused           27  the API finds the manifest invalid (400, 422, or an admission policy)
    ├── JobFailed                 28  the job that was waited for failed
    ├── JobVanished               29  the job that was waited for or followed was deleted
    ├── WaitedTooLong             30  the job did not end in the time given
    ├── Overtaken                 31  somebody else changed the object in between (409 Conflict)
    ├── RolloutFailed             32  a new version never became ready; what ran still runs
    └── ClientMissing              8  the package `kubernetes` is not installed

A message carries the value, the rule and the next move. Each class names the exit code `lapactl` ends with.
"""


class ClusterError(Exception):
    """The API refused for a reason that no subclass names; base of every error of the control plane."""

    exit_code = 20


class ClusterUnreachable(ClusterError):
    """No kubeconfig, no such context, or nobody answers there."""

    exit_code = 21


class AccessDenied(ClusterError):
    """Not logged in, or not allowed."""

    exit_code = 22


class KindNotServed(ClusterError):
    """The cluster does not know this kind of job: its operator is not installed."""

    exit_code = 23


class NameTaken(ClusterError):
    """Something else has the job's name."""

    exit_code = 24


class QuotaExceeded(ClusterError):
    """The namespace's quota has no room for the object, or its queue will never have any."""

    exit_code = 25


class NotFound(ClusterError):
    """No such job, pod or namespace."""

    exit_code = 26


class ManifestRefused(ClusterError):
    """The API finds the manifest invalid, or a policy of the cluster refuses it."""

    exit_code = 27


class JobFailed(ClusterError):
    """The job that was waited for failed."""

    exit_code = 28


class JobVanished(ClusterError):
    """The job that was waited for or followed was deleted."""

    exit_code = 29


class WaitedTooLong(ClusterError):
    """The job did not end in the time given."""

    exit_code = 30


class Overtaken(ClusterError):
    """Somebody else changed the object in between, so nothing was changed."""

    exit_code = 31


class RolloutFailed(ClusterError):
    """A new version never became ready; what ran still runs."""

    exit_code = 32


class ClientMissing(ClusterError):
    """The package `kubernetes` is not installed; the code is that of any missing dependency."""

    exit_code = 8
