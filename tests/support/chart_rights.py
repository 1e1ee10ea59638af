"""What each of the chart's roles may do, as a table: by group and resource, the verbs. Everything else is refused."""

Table = dict[tuple[str, str], tuple[str, ...]]

JOBS = ("create", "delete", "get", "list", "patch", "watch")
STAGES = ("create", "delete", "get", "watch")
ROLL = ("create", "delete", "get", "list", "patch")
READ = ("get", "list", "watch")

SUBMITTER: Table = {
    ("kubeflow.org", "pytorchjobs"): JOBS,
    ("trainer.kubeflow.org", "trainjobs"): JOBS,
    ("batch", "jobs"): JOBS,
    ("", "configmaps"): ("create", "delete", "get", "list", "patch"),
    ("", "pods"): ("get", "list"),
    ("", "pods/log"): ("get",),
    ("", "events"): ("list",),
    ("", "resourcequotas"): ("get", "list"),
    ("", "serviceaccounts"): ("get", "list"),
    ("trainer.kubeflow.org", "trainingruntimes"): ("get",),
    ("kueue.x-k8s.io", "workloads"): ("list", "patch"),
    ("kueue.x-k8s.io", "localqueues"): ("get", "list"),
    ("visibility.kueue.x-k8s.io", "localqueues/pendingworkloads"): ("get",),
}
PIPELINE: Table = {
    ("kubeflow.org", "pytorchjobs"): STAGES,
    ("trainer.kubeflow.org", "trainjobs"): STAGES,
    ("batch", "jobs"): STAGES,
    ("", "configmaps"): ("create", "delete", "get", "patch"),
    ("", "pods"): ("list",),
}
EXECUTOR: Table = {("", "pods/exec"): ("create", "get")}
DEPLOYER: Table = {
    ("apps", "deployments"): ROLL,
    ("", "services"): ROLL,
    ("serving.kserve.io", "inferenceservices"): ("create", "get", "patch"),
    ("", "pods"): READ,
    ("", "pods/log"): READ,
    ("", "events"): READ,
}
RECONCILER: Table = {
    ("apps", "deployments"): ROLL,
    ("", "services"): ("get", "list", "patch"),
    ("", "pods"): ("list",),
    ("", "events"): ("list",),
}
NOTHING: Table = {}
