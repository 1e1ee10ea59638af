"""Still pictures of an episode, as TFRecords, Parquet tables and others embed them."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from lapa.errors import SourceError
from lapa.types.episodes import Frame


def decode_images(images: Sequence[bytes], name: str) -> Iterator[Frame]:
    """RGB frames of JPEG or PNG data. Raises SourceError, naming the picture, where one is neither."""
    for number, data in enumerate(images):
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
        if image is None:
            raise SourceError(f"{name}: image {number} is neither JPEG nor PNG. Download the file again.")
        yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
