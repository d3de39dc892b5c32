"""What decides a run: one flat, frozen record, from the command line and into `config.json`."""

from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal

from jaxcnn.models.resnet import Attention
from jaxcnn.precision import Precision


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a run computes."""

    network: str
    """Network by name; see --list."""
    data: str
    """Data source by name or as KIND:PATH; see --list."""
    epochs: int
    """Passes over the training set."""
    batch_size: int
    """Examples a step."""
    learning_rate: float
    """Initial learning rate."""
    optimizer: str = "sgd"
    """Optimizer by torch.optim's name, in lower case."""
    momentum: float = 0.0
    """SGD's or RMSprop's momentum."""
    nesterov: bool = False
    """Nesterov's momentum."""
    weight_decay: float = 0.0
    """Weight decay, coupled or decoupled as the torch.optim optimizer has it."""
    optimizer_args: str = ""
    """Other arguments by torch.optim's names, such as "betas=(0.8, 0.99), amsgrad=True"."""
    norm_decay: bool = True
    """Weight decay on the parameters of norms and on all biases too."""
    lr_factors: str = ""
    """Factors of some parameters' learning rate, by pattern: "norm.*bias=64; fc.*=0.1"."""
    lookahead: str = ""
    """Slow weights that pull the others back: "every=5, decay=0.5, power=0, epochs=10"."""
    schedule: str = "constant"
    """Learning-rate schedule by name, see --list, or several in turn: "linear, step"."""
    schedule_milestones: str = ""
    """Epochs at which the second, third, ... of several schedules begins, such as "5, 20"."""
    gamma: float | None = None
    """Factor of the exponential, step, multi_step and cyclic schedules."""
    schedule_args: str = ""
    """Other arguments by torch's names, such as "patience=3"; of several divided by semicolons."""
    decay_every: Literal["epoch", "step"] = "epoch"
    """When the schedule moves on."""
    norm_parts: int = 1
    """Parts of a batch that batch norms normalise each by its own statistics."""
    drop_last: bool = False
    """Leave out the last partial batch of an epoch."""
    seed: int = 0
    """Decides the initial weights, the order of the examples, augmentation and dropout."""
    holdout: float = 0.2
    """Share held out for testing, where the source has no test split."""
    split_seed: int = 0
    """Decides which examples are held out; apart from --seed, so that seeds can be compared."""
    stream: bool | None = None
    """Decode image files while training instead of once before; None decides by size."""
    normalization: Literal["symmetric", "imagenet", "dataset", "none"] = "symmetric"
    """What pixels become: [-1, 1], mean 0 and deviation 1 (of ImageNet, of the data), [0, 1]."""
    init: str | None = None
    """Weights to start from: a .safetensors, .npz or .pth file of PyTorch keys, or a run folder."""
    whiten: str = ""
    """A first convolution that begins by whitening the training images' patches: its path."""
    replace_head: int | None = None
    """Draw the last layer anew for so many classes, and take the rest from --init."""
    freeze: str = ""
    """Parameters that are not trained: "all-but-head", or a pattern of how their paths start."""
    unfreeze_at: int | None = None
    """Train everything after so many epochs; None leaves frozen what is."""
    freeze_later: str = ""
    """Parameters that are trained for `freeze_at` epochs only: a pattern as that of freeze."""
    freeze_at: int | None = None
    """Epochs after which freeze_later holds."""
    freeze_norms: bool = False
    """Batch norms that are frozen use and keep their running statistics."""
    lr_head: float | None = None
    """Initial learning rate of the last layer, then the one that is logged; None is that of all."""
    cache_features: bool = False
    """Compute once, as in evaluation, what the last layer sees; train that layer on it alone."""
    validation: float = 0.0
    """Share of the training set held out to choose the best epoch by; 0 chooses on the test set."""
    examples: int | None = None
    """Train on so many examples only, as many of each class; None trains on all."""
    attention: Attention = "none"
    """What ends every block of a resnet18-152: squeeze-excitation, CBAM, or nothing."""
    image_size: int | None = None
    """Images are resized to so many pixels a side; None is the network's documented size."""
    stored_size: int | None = None
    """Image files are read at so many pixels a side; evaluation takes their centre."""
    skip_corrupt: bool = False
    """Leave out image files that cannot be read, after listing them."""
    augment: str = ""
    """How training images are changed at random: "random_crop(padding=4), ..."; see --list."""
    dropout: float | None = None
    """Share of values dropped, where the network has a dropout; None is the network's own."""
    dropout2d: float | None = None
    """Share of channels dropped behind each pooling; None is the network's own."""
    precision: Precision = "float32"
    """What products and activations are rounded to; parameters and the loss stay float32."""
    label_smoothing: float = 0.0
    """Share of the labels that is spread evenly over all classes, in training."""
    l1: float = 0.0
    """Factor of the sum of the penalized parameters' magnitudes; documented as 0.001."""
    l2: float = 0.0
    """Factor of the sum of the penalized parameters' squares; documented as 0.001."""
    penalized: str = r"kernel$"
    """Regular expression of the parameters with these penalties."""
    views: Literal["one", "mirrored", "mirrored and shifted"] = "one"
    """What evaluation averages the logits over: the image, it and its mirror image, and shifts."""
    early_stopping: int | None = None
    """Stop after so many epochs without improvement of the evaluation; None never."""
    early_stopping_metric: Literal["accuracy", "loss"] = "accuracy"
    """What has to improve."""
    min_delta: float = 0.0
    """How much it has to improve to count."""

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Return the default of every setting that has one."""
        values = {field.name: field.default for field in fields(cls)}
        return {name: value for name, value in values.items() if value is not MISSING}

    def given(self, *names: str) -> dict[str, Any]:
        """Return those of the named settings, which all have defaults, that differ from them.

        So an optimizer that has no momentum takes settings that ask for none.
        """
        defaults, values = self.defaults(), {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value != defaults[name]}

    @property
    def title(self) -> str:
        """The network's name, and what the settings add to it."""
        return self.network if self.attention == "none" else f"{self.network} with {self.attention}"
