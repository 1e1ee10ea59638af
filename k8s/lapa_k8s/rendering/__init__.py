"""From a job spec to manifests; pure functions."""
