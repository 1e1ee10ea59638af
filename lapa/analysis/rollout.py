"""Neural closed loop: the policy imagines. Codes from the pretrained VLA, frames from the decoder, again and again.

n imagined frames, k codes per frame pair, c h w images at the latent-action model's size.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from lapa.analysis.atlas import frames_of
from lapa.analysis.drawing import Tile, grid
from lapa.analysis.exhibit_results import Rollout
from lapa.analysis.exhibits import Exhibit, code_name
from lapa.analysis.images import to_images
from lapa.analysis.latents import Encoded, encode_frames
from lapa.analysis.reconstruction import decode
from lapa.config.data import VideoEncoding
from lapa.data.frames import episode_frames
from lapa.data.video import encode_mp4
from lapa.models.images import to_bytes, to_unit
from lapa.models.latent_action.model import LatentActionModel
from lapa.models.vla.model import VisionLanguageAction

MOST_FRAMES = 12
SHOWN = 6
"""Imagined frames on the still picture."""
PANEL = 240
"""Pixels of a panel of the video."""
FRAMES_PER_SECOND = 2.0


@dataclass(frozen=True, kw_only=True)
class Imagined:
    """Both start at the real first frame."""

    frames: UInt8[Tensor, "n c h w"]
    codes: Int64[np.ndarray, "n k"]


def rollout(
    model: LatentActionModel, policy: VisionLanguageAction, encoded: Encoded, role: str, *, row: int
) -> tuple[Rollout, Exhibit]:
    """From the first frame of one episode: beside the real one, and beside its true codes drawn alike."""
    window, instruction = encoded.window(row), encoded.instructions(np.array([row]))[0]
    frames = episode_frames(encoded.dataset, row)
    real = frames[::window][: MOST_FRAMES + 1]
    true_codes = encode_frames(model, real, 1)[0]
    start = to_images(real[:1])
    told = _drawn(model, start, true_codes)
    dreamt = imagine(model, policy, start, instruction, steps=len(real) - 1)
    shown = to_unit(to_images(real), model.config.image_size)
    found = Rollout(
        dataset=encoded.source,
        episode=encoded.dataset.index["episode"][row].as_py(),
        instruction=instruction,
        window_seconds=encoded.window_seconds,
        codes=tuple(code_name(code) for code in dreamt.codes),
        true_codes=tuple(code_name(code) for code in true_codes),
        errors=_errors(dreamt.frames, shown[1:]),
        copy_errors=_errors(to_bytes(shown[:1]).expand(len(shown) - 1, -1, -1, -1), shown[1:]),
        true_code_errors=_errors(told, shown[1:]),
    )
    return found, _exhibit(found, encoded, role, to_bytes(shown), dreamt.frames, told)


@torch.inference_mode()
def imagine(
    model: LatentActionModel,
    policy: VisionLanguageAction,
    start: UInt8[Tensor, "1 c y x"],
    instruction: str,
    *,
    steps: int,
) -> Imagined:
    """The policy sees what the decoder drew, at the size of the frames that it was trained on."""
    frame, size = start, start.shape[-1]
    frames, codes = [], []
    for _ in range(steps):
        seen = to_bytes(to_unit(frame, size))
        code = policy.predict_codes(seen.to(next(policy.parameters()).device), (instruction,)).cpu().numpy()
        frame = to_bytes(decode(model, frame, code))
        frames.append(frame)
        codes.append(code)
    return Imagined(frames=torch.cat(frames), codes=np.concatenate(codes))


def _drawn(
    model: LatentActionModel, start: UInt8[Tensor, "1 c y x"], codes: Int64[np.ndarray, "n k"]
) -> UInt8[Tensor, "n c h w"]:
    """The decoder upon its own frames, told these codes."""
    frame, frames = start, []
    for code in codes:
        frame = to_bytes(decode(model, frame, code[None]))
        frames.append(frame)
    return torch.cat(frames)


def telling_rows(encoded: Encoded) -> list[int]:
    """Scored episodes, the longest of each instruction first: little happens in short ones."""
    lengths = encoded.dataset.index["num_frames"].to_numpy()[encoded.scored_rows]
    windows = np.array([encoded.window(int(row)) for row in encoded.scored_rows])
    order = encoded.scored_rows[np.argsort(-np.minimum(lengths // windows, MOST_FRAMES), kind="stable")]
    seen: set[str] = set()
    first: list[int] = []
    again: list[int] = []
    for row, instruction in zip(order.tolist(), encoded.instructions(order), strict=True):
        (again if instruction in seen else first).append(row)
        seen.add(instruction)
    return first + again


def _errors(frames: UInt8[Tensor, "n c h w"], real: Tensor) -> tuple[float, ...]:
    return tuple((frames.float() / 255 - real).square().mean(dim=(1, 2, 3)).tolist())


def _exhibit(found: Rollout, encoded: Encoded, role: str, real: Tensor, dreamt: Tensor, told: Tensor) -> Exhibit:
    rows = {
        "real": frames_of(real.float() / 255),
        "policy\nimagines": frames_of(torch.cat([real[:1], dreamt]).float() / 255),
        "true codes,\ndrawn": frames_of(torch.cat([real[:1], told]).float() / 255),
    }
    names = (("",) * len(real), ("", *found.codes), ("", *found.true_codes))
    chosen = np.unique(np.linspace(0, len(real) - 1, min(SHOWN, len(real))).astype(np.int64))
    tiles = [
        [Tile(frame=frames[i], title=words[i]) for i in chosen]
        for frames, words in zip(rows.values(), names, strict=True)
    ]
    film = [
        np.concatenate([_panel(frames[i], name) for name, frames in rows.items()], axis=1) for i in range(len(real))
    ]
    return Exhibit(
        kind="rollout",
        name=f"rollout-{role}-{found.episode}".replace("/", "-"),
        title=f"What the policy imagines: {found.instruction}",
        caption=(
            "Above, the real episode. In the middle the pretrained policy picks codes from the imagined frame and the "
            "instruction, and the decoder draws the next frame, again and again; the codes stand above each frame. "
            f"Below, the decoder is told the real episode's codes. One frame is {found.window_seconds:g} s. The middle "
            "may rightly differ from the real episode; it should look possible and do what is asked."
        ),
        alt=f"Real and imagined frames of the instruction: {found.instruction}",
        still=grid(tiles, row_names=list(rows), column_names=[f"{i * encoded.window_seconds:.3g} s" for i in chosen]),
        video=encode_mp4([*film, film[-1], film[-1]], FRAMES_PER_SECOND, VideoEncoding()),
        video_size=(film[0].shape[1], film[0].shape[0]),
    )


def _panel(frame: UInt8[np.ndarray, "h w c"], name: str) -> UInt8[np.ndarray, "y x c"]:
    """Enlarged, with its name below."""
    large = cv2.resize(frame, (PANEL, PANEL), interpolation=cv2.INTER_NEAREST)
    strip = np.full((36, PANEL, 3), 255, np.uint8)
    words = name.replace("\n", " ")
    cv2.putText(strip, words, (6, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([large, strip], axis=0)
