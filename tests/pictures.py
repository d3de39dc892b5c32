"""What tests of pictures share: metrics of a run, pixels, legends, overlaps."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from jaxcnn import canvas

SAVE = canvas.save


def rows(epochs=3, epoch_steps=10, factor=10.0, best=2):
    """Make the metrics of a run whose loss falls by `factor` an epoch."""
    made = []
    for epoch in range(1, epochs + 1):
        for step in range(epoch_steps * (epoch - 1) + 5, epoch_steps * epoch + 1, 5):
            rate = 0.1 * 0.5**epoch
            loss = float(factor ** (-step / epoch_steps))
            made.append({"kind": "step", "step": step, "loss": loss, "learning_rate": rate})
        here = {"step": epoch * epoch_steps, "epoch": epoch}
        made.append({"kind": "train", **here, "loss": 2 * factor**-epoch, "accuracy": 0.5})
        accuracy = 0.9 - 0.1 * abs(epoch - best)
        made.append({"kind": "eval", **here, "loss": 3 * factor**-epoch, "accuracy": accuracy})
    return made


def pixels(path, figure=None):
    if figure is not None:
        SAVE(figure, path)
    with Image.open(path) as picture:
        picture.load()  # reads it to its end
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def rgb(colour):
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def texts_apart(figure, texts):
    """Assert that no two texts overlap and that none leaves the figure."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    boxes = [text.get_window_extent(renderer) for text in texts if text.get_text()]
    for i, box in enumerate(boxes):
        assert box.x0 >= 0 and box.y0 >= 0
        assert box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
        for other in boxes[:i]:
            assert not box.padded(-0.5).overlaps(other.padded(-0.5))
