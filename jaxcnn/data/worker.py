"""A process that decodes image files for `jaxcnn.data.readers`, asked through standard input.

A request is the pickle of (paths, (H, W, C)). The answer on standard output is the pickle of None
and behind it the pixels of all images, or the pickle of the error that the first bad one met. It
ends with its input, so that it cannot outlive the process that asks.
"""

import os
import pickle
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType


def main() -> None:
    """Answer requests until the input ends."""
    folder = Path(__file__).resolve().parent
    sys.path.append(str(folder.parents[1]))
    # The package's own __init__ imports JAX: a second, and memory that no decoder wants.
    package = ModuleType("jaxcnn.data")
    package.__path__ = [str(folder)]
    sys.modules[package.__name__] = package
    from jaxcnn.data.decode import read_image

    # Whatever else writes to standard output must not come between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    # So it is told that nobody asks any more.
    with suppress(EOFError, pickle.UnpicklingError, BrokenPipeError), answers:
        while True:
            paths, image_shape = pickle.load(sys.stdin.buffer)
            try:
                images = [read_image(path, image_shape) for path in paths]
            except Exception as error:  # the process that asked raises it
                pickle.dump(error, answers)
            else:
                pickle.dump(None, answers)
                for image in images:
                    answers.write(image.data)
            answers.flush()


if __name__ == "__main__":
    main()
