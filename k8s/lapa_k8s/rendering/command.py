"""What a pod runs.

A stage that shares its work over ranks is started by `python -m lapa.launch`, not by bare `torchrun`. It is torchrun:
it takes torchrun's arguments and the `PET_*` variables that both operators inject, so nodes, processes and the
meeting point are theirs to say and the command holds none of them. It differs in its end. torchrun exits with 1 for
any child that fails, which loses what the stages promise: 75 after SIGTERM with the step saved ("run the same command
again"), 2 for an impossible setting, 5 for a diverged training, and so on.

How the code meets the pod's restart policy:

- PyTorchJob has OnFailure. Any code but 0 restarts the container in its pod, volumes kept, and counts against
  `backoffLimit`; a preempted node ends with 75, so it never looks like success (one worker that exits with 0 ends an
  elastic job). `ExitCode` would fail the job on 75, and on the 1 of a peer that only lost its neighbour.
- A plain Job has Never, and a pod failure policy reads the code: 75 and evictions cost no retry, a code that a
  restart cannot mend fails the job at once. `indexed_job.py` has the table.
- A TrainJob restarts as a whole, as its runtime says.

torchrun must be told to wait for a save before it kills: `TORCH_ELASTIC_SHUTDOWN_TIMEOUT`, see `environment.py`.
"""

from lapa_k8s.rendering.paths import RUN_FILE
from lapa_k8s.spec import ONE_PROCESS_STAGES, JobSpec

PYTHON = "python"
"""Of the image, which has the locked environment first on its PATH."""


def command(spec: JobSpec) -> list[str]:
    """The container's command, in exec form, so that signals reach the launcher."""
    program = ["-m", "lapa", spec.stage, RUN_FILE]
    if spec.stage in ONE_PROCESS_STAGES:
        return [PYTHON, *program]
    if spec.operator == "job":
        return [PYTHON, "-m", "lapa.launch", "--standalone", f"--nproc-per-node={spec.processes_per_node}", *program]
    return [PYTHON, "-m", "lapa.launch", *program]
