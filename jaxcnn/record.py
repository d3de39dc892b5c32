"""What a run writes down as it trains: rows of metrics, checkpoints, what it has reached.

RUN/metrics.jsonl         a row every few steps, two an epoch
RUN/checkpoints/latest/   the newest state
RUN/checkpoints/best/     the state after the epoch of the best accuracy

Of several processes each keeps the same record, and the first one reads and writes the files.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optax

from jaxcnn import checkpoint, log, optim, processes, schedules
from jaxcnn.early_stopping import EarlyStopping
from jaxcnn.schedules import Plateau
from jaxcnn.train import TrainState

_LONG = 0.5, 0.1  # seconds of waiting that are worth a word, and of an epoch's the share

_REACHED = ("best_accuracy", "best_epoch", "accuracy", "loss")


@dataclass
class Record:
    """The record of one run.

    Attributes:
        workdir: the run folder.
        epochs: passes over the training set in all.
        epoch_steps: steps an epoch.
        log_every: steps between two rows of kind "step".
        split: the name of the split that is evaluated.
        schedule: step -> learning rate, for the log; or a plateau, which hears every evaluation.
        early_stopping: ends the run where the evaluation no longer improves.
        name: what lines and errors begin with where there are several runs, such as "seed 3: ".
        step: steps done whose metrics are in the record.
        train_seconds: time spent in steps since `start`.
        values: what a checkpoint holds of the record; JSON can hold it.
    """

    workdir: Path
    epochs: int
    epoch_steps: int
    log_every: int
    split: str
    schedule: optax.Schedule | Plateau | None = None
    early_stopping: EarlyStopping | None = None
    name: str = ""
    step: int = 0
    train_seconds: float = 0.0
    values: dict[str, Any] = field(init=False)
    _rates: optax.Schedule | None = field(init=False, repr=False)
    _waiting_told: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        """Begin with nothing reached."""
        watched = None if self.early_stopping is None else self.early_stopping.start()
        self.values = dict.fromkeys(_REACHED) | _empty_sums()
        self.values |= {"early_stopping": watched, "stopped_early": False}

    @property
    def stopped_early(self) -> bool:
        """Whether early stopping has ended the run."""
        return self.values["stopped_early"]

    @property
    def shown(self) -> dict[str, float]:
        """What the progress shows: the loss of the newest step read, if there is one."""
        loss = self.values["last_loss"]
        return {} if loss is None else {"loss": loss}

    @contextlib.contextmanager
    def naming(self) -> Iterator[None]:
        """Let a FloatingPointError begin with the run's name."""
        try:
            yield
        except FloatingPointError as error:
            if not self.name:
                raise
            raise FloatingPointError(f"{self.name}{error}") from error

    def start(self, state: TrainState, *, resume: bool) -> TrainState:
        """Return the state to begin with: the given one or, to resume, that of `latest`.

        Raises:
            FileNotFoundError: `resume` without a checkpoint.
            ValueError: a checkpoint that is damaged or of another structure than the state.
        """
        if resume:
            state, restored = processes.from_first(lambda: self._restored(state))
            self.values |= restored
        self.step = int(state.step)
        self._rates = _rates(self.schedule, state)
        if self.stopped_early:
            log.say(f"{self.name}stopped early after epoch {self.step // self.epoch_steps} already")
        return state

    def add(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Add a step's metrics to the epoch's sums, and write its row where one is due.

        Args:
            step: steps done with it.
            metrics: `loss`, `correct` and `count` of `jaxcnn.train.make_train_step`, on the host.

        Raises:
            FloatingPointError: a NaN or infinite loss.
        """
        loss, count = float(metrics["loss"]), int(metrics["count"])
        self.values["loss_sum"] += loss * count
        self.values["correct"] += int(metrics["correct"])
        self.values["count"] += count
        self.values["last_loss"] = loss
        self.step = step
        if not np.isfinite(loss):
            raise FloatingPointError(
                f"the training loss is {loss} at step {step} "
                f"(epoch {(step - 1) // self.epoch_steps + 1}); {_kept(self._folder('latest'))}"
            )
        if step % self.log_every == 0:
            row = {"kind": "step", "step": step, "epoch": step / self.epoch_steps, "loss": loss}
            self._write(row | self._rate())

    def trained(self, *, examples: int, seconds: float, waited: float = 0.0) -> None:
        """Write the row of a finished epoch of training.

        Args:
            examples: trained on in this epoch since it was begun or resumed.
            seconds: it took.
            waited: those of them in which the device had nothing to do for want of images.
        """
        metrics = {
            "loss": self.values["loss_sum"] / self.values["count"],
            "accuracy": self.values["correct"] / self.values["count"],
        }
        timing = {"seconds": seconds, "images_per_second": examples / seconds, "waited": waited}
        row = {"kind": "train", **self._here(), **metrics, **timing, **self._rate()}
        self._write(row)
        least, share = _LONG
        if waited > max(least, share * seconds) and not self._waiting_told:
            self._waiting_told = True
            log.say(
                f"{self.name}epoch {row['epoch']}: waited {waited:.1f} of {seconds:.1f} s for "
                "images; more --workers decode faster, --stream False decodes them once"
            )

    def evaluated(
        self, result: Mapping[str, Any], state: TrainState, *, speed: float
    ) -> TrainState:
        """Take note of the evaluation after an epoch, and whether the run ends with it.

        Args:
            result: of `jaxcnn.evaluate.evaluate`.
            state: what was evaluated.
            speed: images a second of the epoch's training, for the line that is said.

        Returns:
            The state, whose plateau, if it has one, has seen the evaluation.
        """
        here = self._here()
        found = {name: result[name] for name in ("loss", "accuracy")}
        self._write({"kind": "eval", **here, "split": self.split, **found})
        loss = self.values["loss_sum"] / self.values["count"]
        log.say(
            f"{self.name}epoch {here['epoch']}/{self.epochs}: train loss {loss:.4f}, {self.split} "
            f"loss {found['loss']:.4f}, {self.split} accuracy {100 * found['accuracy']:.2f} %, "
            f"{speed:.0f} images/s"
        )
        self.values |= found | _empty_sums()
        if isinstance(self.schedule, Plateau):
            state = self._observed(self.schedule, state, found)
            self._rates = _rates(self.schedule, state)
        if self.early_stopping is not None:
            self._watch(self.early_stopping, found, here["epoch"])
        best = self.values["best_accuracy"]
        if best is None or found["accuracy"] > best:
            self.values |= {"best_accuracy": found["accuracy"], "best_epoch": here["epoch"]}
        return state

    def save(self, state: TrainState) -> None:
        """Save the state as `latest`, after the best epoch so far as `best` too.

        Raises:
            FloatingPointError: the state holds a NaN or an infinity.
        """
        epoch, inside = divmod(self.step, self.epoch_steps)
        if not inside and epoch == self.values["best_epoch"]:
            checkpoint.save(self._folder("best"), state, self.values)
        checkpoint.save(self._folder("latest"), state, self.values)

    def result(self, seconds: float) -> dict[str, Any]:
        """Return what `jaxcnn.fit.fit` returns; `seconds` is the time of its call."""
        unfinished = self.step < self.epochs * self.epoch_steps
        return {
            "step": self.step,
            "epoch": self.step // self.epoch_steps,
            "interrupted": unfinished and not self.stopped_early,
            "stopped_early": self.stopped_early,
            **{name: self.values[name] for name in _REACHED},
            "split": self.split,
            "seconds": seconds,
            "train_seconds": self.train_seconds,
        }

    def _restored(self, state: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """Read `latest`, and drop the rows of metrics behind it."""
        state, values = checkpoint.restore(self._folder("latest"), state)
        log.truncate_metrics(self.workdir, int(state.step))
        return state, values

    def _write(self, row: Mapping[str, Any]) -> None:
        if processes.first():
            log.append_metrics(self.workdir, row)

    def _folder(self, which: str) -> Path:
        return self.workdir / "checkpoints" / which

    def _here(self) -> dict[str, int]:
        return {"step": self.step, "epoch": self.step // self.epoch_steps}

    def _rate(self) -> dict[str, float]:
        """Return the learning rate of the last step."""
        if self._rates is None:
            return {}
        return {"learning_rate": float(np.asarray(self._rates(self.step - 1)))}

    def _observed(
        self, plateau: Plateau, state: TrainState, found: Mapping[str, float]
    ) -> TrainState:
        """Return the state whose plateau has seen an evaluation; say so where the rate falls."""
        metric = "accuracy" if plateau.mode == "max" else "loss"
        opt_state = optim.observe(state.opt_state, found[metric])
        before, after = map(optim.plateau_rate, (state.opt_state, opt_state))
        if after < before:
            log.say(
                f"{self.name}the {metric} no longer improves: learning rate {before:.4g} -> "
                f"{after:.4g}"
            )
        return state.replace(opt_state=opt_state)

    def _watch(self, early_stopping: EarlyStopping, found: Mapping[str, float], epoch: int) -> None:
        """Note an evaluation, and whether the run ends with it."""
        metric = early_stopping.metric
        seen = self.values["early_stopping"]
        watched, stop, _ = early_stopping.observe(seen, found[metric])
        self.values |= {"early_stopping": watched, "stopped_early": stop}
        if stop:
            log.say(
                f"{self.name}stops early: the {metric} was best after epoch "
                f"{watched['best_epoch']}, not {epoch}"
            )


def _empty_sums() -> dict[str, Any]:
    """Return the sums of an epoch at its start; a checkpoint carries them across a resume."""
    return {"loss_sum": 0.0, "correct": 0, "count": 0, "last_loss": None}


def _rates(schedule: optax.Schedule | Plateau | None, state: TrainState) -> optax.Schedule | None:
    """Return the learning rates of the epoch that begins; a plateau's stays the same in it."""
    if isinstance(schedule, Plateau):
        return schedules.constant(optim.plateau_rate(state.opt_state), 1)
    return schedule


def _kept(latest: Path) -> str:
    step = checkpoint.saved_step(latest)
    if step is None:
        return "no checkpoint had been saved yet"
    return f"the last good checkpoint is step {step} in {latest}"
