"""What `lapactl plan` says, from a footprint and machines."""

import pytest

from lapa.config.load import load_run
from lapa.errors import ConfigError
from lapa.estimate.footprint import Affine, Footprint, ParameterGroup, Work
from lapa.estimate.gpus import GPUS, find_gpu
from lapa.estimate.prediction import predict
from lapa.estimate.speed import CALL_SECONDS, Demand, Machines, compute_seconds, compute_time, demand_of

SEVEN_BILLION = Footprint(
    stage="pretrain",
    parameters=(ParameterGroup(numel=7_000_000, count=1000, is_trainable=True),),
    work=Work(saved=Affine(fixed=14_000_000_000, per_sample=4_000_000_000), flops=12 * 10**12),
    checkpointed=Work(
        saved=Affine(fixed=0, per_sample=100_000_000),
        recomputed=Affine(fixed=0, per_sample=120_000_000),
        flops=16 * 10**12,
    ),
    frame_bytes=3 * 256**2,
    stored_bytes=8192.0,
    stored_bytes_are_measured=False,
)


def machines(nodes: int, gpu: str = "H100", gpus: int = 8) -> Machines:
    return Machines(gpu=find_gpu(gpu), nodes=nodes, gpus_per_node=gpus)


def test_seven_billion_parameters_fit_sharded_and_not_whole():
    assert predict(load_run("lapa"), SEVEN_BILLION, machines(8)).fits
    whole = predict(load_run("lapa", ["engine.zero_stage=0"]), SEVEN_BILLION, machines(8))
    assert not whole.fits
    # 16 bytes per parameter in fp32, before any activation.
    assert whole.memory.parameters + whole.memory.gradients + whole.memory.optimizer == 16 * 7_000_000_000


def test_advice_is_the_fastest_setting_that_fits():
    run = load_run("lapa", ["engine.zero_stage=1", "pretrain.fit.batch_size=1024"])
    predicted = predict(run, SEVEN_BILLION, machines(4))
    assert not predicted.fits and predicted.better is not None
    advised = [
        f"engine.zero_stage={predicted.better.zero_stage}",
        f"pretrain.fit.micro_batch_size={predicted.better.micro_batch}",
    ]
    footprint = SEVEN_BILLION.model_copy(update={"is_checkpointed": predicted.better.is_checkpointed})
    followed = predict(load_run("lapa", ["pretrain.fit.batch_size=1024", *advised]), footprint, machines(4))
    assert followed.fits
    assert followed.step.total == pytest.approx(predicted.better.step_seconds)


def test_nothing_is_advised_where_nothing_fits():
    assert predict(load_run("lapa"), SEVEN_BILLION, machines(1, "L4", 1)).better is None


def test_twice_the_nodes_halve_the_computing():
    times = [predict(load_run("lapa"), SEVEN_BILLION, machines(nodes)).step.compute for nodes in (4, 8)]
    assert times[0] == pytest.approx(2 * times[1])


def test_hours_are_steps_by_step_time_by_gpus():
    predicted = predict(load_run("lapa"), SEVEN_BILLION, machines(8), mfu=0.5)
    assert predicted.gpu_hours == pytest.approx(70_000 * predicted.step.total * 64 / 3600)
    assert predicted.storage_bytes_per_second == pytest.approx(256 / predicted.step.total * 8192)
    assert predicted.step.compute == pytest.approx(compute_seconds(4 * 12e12, peak=989e12, mfu=0.5))


def test_the_longest_of_products_memory_and_calls_is_the_time_of_computing():
    gpu = find_gpu("H100")
    large = Demand(flops=1e15, moved_bytes=1e11, calls=1e3)
    assert compute_time(large, gpu, precision="bf16").regime == "products"
    unfused = compute_time(Demand(flops=1e13, moved_bytes=1e12, calls=1e3), gpu, precision="bf16")
    assert unfused.regime == "memory" and unfused.total == pytest.approx(1e13 / 989e12 + 1e12 / 3.35e12)
    small = compute_time(Demand(flops=1e9, moved_bytes=1e8, calls=2e3), gpu, precision="bf16")
    assert small.regime == "calls" and small.total == pytest.approx(2e3 * CALL_SECONDS)
    # What somebody measured holds the memory's time already; a host is no faster for it.
    assert compute_time(large, gpu, precision="bf16", mfu=0.5).total == pytest.approx(1e15 / 989e12 / 0.5)
    assert compute_time(Demand(flops=1e13, moved_bytes=1e12, calls=0), gpu, precision="bf16", mfu=0.5).memory == 0


def test_every_pass_calls_its_operators_again():
    work = Work(saved=Affine(fixed=0, per_sample=0), flops=5, moved=Affine(fixed=100, per_sample=10), calls=7)
    assert demand_of(work, micro_batch=8) == Demand(flops=40, moved_bytes=180, calls=7)
    assert demand_of(work, micro_batch=4, micro_batches=2) == Demand(flops=40, moved_bytes=280, calls=14)


def test_labelling_takes_its_time_from_the_dataset():
    footprint = SEVEN_BILLION.model_copy(update={"stage": "label", "samples": 1_000_000})
    predicted = predict(load_run("lapa"), footprint, machines(1))
    assert predicted.steps == -(-1_000_000 // (64 * 8))
    assert predict(load_run("lapa"), footprint.model_copy(update={"samples": None}), machines(1)).seconds is None


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match=r"engine\.kind=deepspeed"):
        predict(load_run("lapa", ["engine.kind=torch"]), SEVEN_BILLION, machines(1))
    with pytest.raises(ConfigError, match="batches of 256"):
        predict(load_run("lapa"), SEVEN_BILLION, machines(64))
    with pytest.raises(ConfigError, match="H200"):
        find_gpu("H300")
    assert find_gpu("h200") is GPUS["H200"]
