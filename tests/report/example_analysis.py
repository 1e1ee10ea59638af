"""What the analyses of a model might find, invented; with a picture and a video that can be shown."""

import io
from pathlib import Path

import av
import numpy as np

from lapa.analysis.exhibit_results import CodeMotion, Confusion, MediaFile, Rollout, Scatter
from lapa.analysis.probe_results import (
    CameraLeakage,
    CodeUsage,
    Condition,
    Information,
    ProbeReport,
    ProbeScore,
    Reconstruction,
)
from lapa.analysis.records import Score, Source
from lapa.analysis.results import AnalysisResult
from lapa.tracking.tracker import png_bytes

MODEL = Source(url="laq", digest="d" * 48, name="laq")
ROBOT = Source(url="datasets/robot", digest="r" * 48, name="tabletop")


def write_analysis_files(folder: Path, r2: float = 0.8, leak: float = 0.12) -> AnalysisResult:
    """An analysis with its files."""
    folder.mkdir(parents=True)
    frame = np.full((48, 96, 3), 200, np.uint8)
    (folder / "atlas.png").write_bytes(png_bytes(frame))
    (folder / "rollout.png").write_bytes(png_bytes(frame))
    (folder / "rollout.mp4").write_bytes(_video())
    return AnalysisResult(
        digest="a" * 64,
        folder=str(folder),
        name="tabletop",
        model=MODEL,
        datasets={"robot": ROBOT},
        probes={"robot": _probes(r2, leak)},
        scatters=(_scatter(),),
        confusions=(_confusion(),),
        rollouts=(_rollout(),),
        media=(
            _media("atlas", "atlas.png"),
            _media("rollout", "rollout.mp4", poster="rollout.png"),
            _media("across", "gone.png"),
        ),
        skipped={"across": "only one dataset"},
        finished="2026-01-01T10:00:00+00:00",
    )


def _probes(r2: float, leak: float) -> ProbeReport:
    return ProbeReport(
        model=MODEL, dataset=ROBOT, window_seconds=0.3, windows=(3,), num_fit_episodes=40, num_scored_episodes=10,
        num_fit_pairs=800, num_scored_pairs=200,
        usage=CodeUsage(codebook_size=8, codes_per_pair=2, perplexity=(4.5, 3.8), joint_perplexity=7.7, joint_used=14,
                        num_pairs=1000),
        scores=(_score(r2), _score(0.01, "shuffled-pairs"), _score(0.05, "shuffled-time")),
        information=(Information(codes="joint", about="all", bits=1.9, bits_uncorrected=2.0, bits_by_chance=0.05,
                                 entropy=3.0, code_entropy=2.9),),
        camera=CameraLeakage(global_motion={"right": Score(r2=0.1)}, spread={"right": 0.01}, moves=True,
                             code_share=leak, action_share=0.6, actions_from_camera=None, actions_from_both=None,
                             actions_from_codes=None),
        reconstruction=(Reconstruction(name="codes", error=0.0018, low=0.0016, high=0.002, of_copy=0.39),
                        Reconstruction(name="copy", error=0.0047, low=0.0044, high=0.005, of_copy=1.0)),
        messages=("The codes tell the robot's motion.",),
    )  # fmt: skip


def _score(r2: float, condition: Condition = "held-out") -> ProbeScore:
    score = Score(r2=r2, low=r2 - 0.05, high=r2 + 0.05)
    return ProbeScore(features="codes", probe="linear", target="actions", condition=condition, mean=score,
                      dimensions={"x": score, "y": Score(r2=None)})  # fmt: skip


def _scatter() -> Scatter:
    codes = (
        CodeMotion(code="3·1", count=70, mean=(0.5, 0.1), std=(0.2, 0.1), correlation=0.3),
        CodeMotion(code="0·2", count=30, mean=(-0.4, 0.3), std=(0.1, 0.2), correlation=-0.2),
    )
    return Scatter(dataset=ROBOT, position=None, dimensions=("x", "y"), codes=codes, num_pairs=100,
                   explained=(0.8, None))  # fmt: skip


def _confusion() -> Confusion:
    return Confusion(dataset=ROBOT, rows_are="instruction", rows=("push left", "push right"), columns=("3·1", "0·2"),
                     counts=((90, 10), (5, 95)), normalized_information=0.6, by_chance=0.02)  # fmt: skip


def _rollout() -> Rollout:
    return Rollout(dataset=ROBOT, episode="episode-0", instruction="push left", window_seconds=0.3, codes=("3·1",),
                   true_codes=("0·2",), errors=(0.01,), copy_errors=(0.02,))  # fmt: skip


def _media(kind: str, file: str, poster: str | None = None) -> MediaFile:
    is_video = file.endswith(".mp4")
    return MediaFile.model_validate(
        {"kind": kind, "name": kind, "file": file, "media_type": "video/mp4" if is_video else "image/png", "width": 96,
         "height": 48, "title": f"The {kind}", "caption": "How to read it.", "alt": f"Tiles of the {kind}",
         "poster": poster}
    )  # fmt: skip


def _video() -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 48, "yuv420p"
        for shade in range(4):
            frame = av.VideoFrame.from_ndarray(np.full((48, 96, 3), 60 * shade, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()
