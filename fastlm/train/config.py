"""How a run trains, and the whole of its configuration."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastlm.config import option
from fastlm.data.config import DataConfig
from fastlm.models.config import ModelConfig


@dataclass(frozen=True)
class TrainConfig:
    """Length, optimizer, precision, evaluation and checkpoints of a run."""

    run: str = option("", "run folder; default runs/MODEL-DATE-TIME", unit="DIR", harmless=True)
    epochs: float = option(
        0.0, "passes over the training sentences; 0: until --max-steps or --max-minutes, else 32", unit="N", minimum=0
    )
    max_steps: int = option(0, "stop after this many optimizer steps; 0: no limit", unit="STEPS", minimum=0)
    max_minutes: float = option(
        0.0, "stop after this much training time; 0: no limit", unit="MINUTES", minimum=0, harmless=True
    )
    init: str = option(
        "", "weights to begin with: a run of the same kind, or what fastlm merge made; none: drawn anew", unit="RUN"
    )
    optimizer: str = option(
        "adamw", "adamw (decoupled decay) or adam-l2 (decay in the gradient)", choices=("adamw", "adam-l2")
    )
    lr: float = option(5e-4, "peak learning rate", unit="RATE", minimum=0)
    schedule: str = option(
        "constant", "learning rate after the warm-up", choices=("constant", "cosine", "cosine-restarts", "exponential")
    )
    warmup: int = option(100, "steps of linear warm-up from 0", unit="STEPS", minimum=0)
    lr_end: float = option(0.0, "learning rate at the end of a cosine", unit="RATE", minimum=0)
    lr_decay: float = option(
        0.95,
        "factor per epoch of the exponential schedule, or per restart of cosine-restarts",
        unit="FACTOR",
        minimum=0,
        maximum=1,
    )
    restart_epochs: float = option(15.0, "length of one cosine of cosine-restarts", unit="EPOCHS", minimum=1e-6)
    weight_decay: float = option(0.0, "decay of the matrices (not biases, norms)", unit="RATE", minimum=0)
    beta1: float = option(0.9, "Adam's decay of the mean", unit="B", minimum=0, below=1)
    beta2: float = option(0.999, "Adam's decay of the squared mean", unit="B", minimum=0, below=1)
    clip: float = option(1.0, "largest gradient norm; 0: no clipping", unit="NORM", minimum=0)
    accumulate: int = option(1, "micro-batches per optimizer step (the batch stays --batch-size)", unit="N", minimum=1)
    label_smoothing: float = option(0.0, "label smoothing of the training loss", unit="P", minimum=0, maximum=0.99)
    trained_layers: int = option(
        -1, "blocks of a classifier's encoder that learn, the last ones; -1: the whole encoder", unit="N", minimum=-1
    )
    seed: int = option(0, "seed of weights, order, masks and dropout", unit="N", minimum=0)
    device: str = option("auto", "auto, cpu or cuda", choices=("auto", "cpu", "cuda"))
    dtype: str = option(
        "auto",
        "arithmetic of the matrix products; auto takes bf16 where the device gains",
        choices=("auto", "fp32", "bf16", "fp16"),
    )
    kernels: str = option("auto", "backend of the ops", choices=("auto", "native", "triton", "reference"))
    compile: bool = option(False, "torch.compile the model")
    graphs: bool = option(False, "replay micro-batches as CUDA graphs: faster where they are small")
    threads: int = option(0, "CPU threads; 0 takes every core", unit="N", minimum=0, harmless=True)
    eval_every: int = option(
        0, "steps between evaluations; 0: every epoch, at least 20 times a run", unit="STEPS", minimum=0, harmless=True
    )
    valid_sentences: int = option(
        2048, "held-out sentences in an evaluation (a fixed sample); 0: all", unit="SENTENCES", minimum=0, harmless=True
    )
    log_every: int = option(10, "steps between training lines of metrics.jsonl", unit="STEPS", minimum=1, harmless=True)
    save_every: int = option(
        0, "steps between checkpoints; 0: at every evaluation", unit="STEPS", minimum=0, harmless=True
    )
    patience: int = option(
        0,
        "end after this many evaluations without a lower validation loss; 0: never",
        unit="EVALUATIONS",
        minimum=0,
        harmless=True,
    )
    keep: int = option(2, "checkpoints kept besides the best one", unit="N", minimum=1, harmless=True)
    resume: str = option(
        "", "auto (newest valid checkpoint of --run), or a checkpoint folder", unit="auto|PATH", harmless=True
    )
    tensorboard: bool = option(False, "copy metrics to TensorBoard files in the run folder", harmless=True)
    mlflow: bool = option(
        False, "copy metrics to MLflow: to $MLFLOW_TRACKING_URI, else to a file in the run folder", harmless=True
    )


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run, as written to its ``config.json``."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
