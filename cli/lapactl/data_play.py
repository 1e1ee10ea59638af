"""`lapactl data play`: one episode as a video, with what the dataset says of it drawn over it."""

from typing import Annotated

import typer

from lapactl.options import OutputOption
from lapactl.output import Output, OutputFormat


def register(app: typer.Typer) -> None:
    """Add the verb to `lapactl data`."""
    app.command(epilog="Example: lapactl data play work/datasets/mine 0 --to episode.mp4")(play)


def play(
    url: Annotated[str, typer.Argument(metavar="DATASET", help="Folder or URL of a dataset.")],
    episode: Annotated[
        str, typer.Argument(metavar="EPISODE", help="Id of an episode, its beginning, or a row number.")
    ],
    to: Annotated[str, typer.Option("--to", metavar="FILE", help="Where to write the mp4.")],
    labels: Annotated[
        str | None, typer.Option("--labels", metavar="URL", help="Also draw these labels: a `labels` folder.")
    ] = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Write an episode as an mp4 with its instruction and actions.

    With --labels also its latent actions: one coloured square per code, and the codes in numbers.
    """
    from lapa import files
    from lapa.data.dataset import Dataset
    from lapa.data.labels import Labels
    from lapa.data.play import find_row, play_episode

    dataset = Dataset.open(url)
    row = find_row(dataset, episode)
    video = play_episode(dataset, row, labels=None if labels is None else Labels.open(labels))
    files.write_bytes(to, video)
    columns = ("episode", "instruction", "num_frames", "fps")
    Output(output).record({"video": to} | {name: dataset.index[name][row].as_py() for name in columns})
