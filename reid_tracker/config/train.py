"""The settings of `reid-tracker train`."""

from typing import Any, Literal

from pydantic import Field, field_validator

from reid_tracker.config.groups import Settings, setting


class NetworkSettings(Settings):
    """What is trained."""

    backbone: str = setting(
        "efficientnet_lite0",
        "efficientnet_lite0, efficientnet_b0, mobilenet_v3_small, mobilenet_v3_large, shufflenet_v2_x1_0, resnet18 or "
        "resnet50.",
    )
    dimension: int | None = setting(
        256,
        "Length of an appearance vector; null = the backbone's own. Longer tells more apart, for memory.",
        ge=1,
    )
    pooling: Literal["gem", "average"] = setting("gem", "gem (generalised mean, learned exponent) or average.")
    last_stride: Literal[1, 2] | None = setting(
        None,
        "1 = last stage at twice the resolution: some accuracy for a third more time. null = that of --start, or 2.",
    )
    input_size: tuple[int, int] | None = setting(
        None,
        "Height and width of a crop, px. Larger sees more detail; time grows with the area. null = that of --start, or "
        "[128, 64].",
    )
    mean: tuple[float, float, float] = setting(
        (0.498, 0.498, 0.498), "Normalisation (BGR, scale 0..1): what the starting weights were trained with."
    )
    std: tuple[float, float, float] = setting((0.502, 0.502, 0.502), "The same for the spread.")
    frozen_blocks: int = setting(
        0,
        "So many first blocks keep their starting weights. Raise it for a handful of identities.",
        ge=0,
    )


class BatchSettings(Settings):
    """Which crops are learned from together."""

    people: int = setting(16, "Identities in a batch. More: harder negatives, slower steps.", ge=2)
    images: int = setting(4, "Crops of each of them. More: harder positives.", ge=2)
    balance_cameras: bool = setting(
        False, "true = take each identity's crops from its cameras in turn. For sets with few crops in some cameras."
    )
    min_visibility: float = setting(
        0.5, "In MOTChallenge sequences: only boxes visible at least this much are cut out.", ge=0, le=1
    )


class ScheduleSettings(Settings):
    """How long, how fast. An epoch shows every identity once, but for one that would be left alone in a batch."""

    epochs: int = setting(120, "Epochs. The learning rate falls to zero at the last one.", ge=1)
    learning_rate: float = setting(5e-4, "Peak of the rate (AdamW). Higher learns faster until it diverges.", gt=0)
    warm_up_epochs: float = setting(
        4, "Epochs of linear rise to the peak, at most half of the run; half a cosine down follows.", ge=0
    )
    weight_decay: float = setting(
        0.02, "Pull of the layers' weights to zero. Higher: less overfitting, then underfitting.", ge=0
    )
    clip_gradient: float = setting(
        10.0, "Longest gradient (norm); a longer one is scaled down. 0 = never. Lower it if the loss jumps.", ge=0
    )
    average_decay: float = setting(
        0.995,
        "The saved network is the running average of the weights; this share stays, per step.",
        ge=0,
        lt=1,
    )
    validation_identities: int | None = setting(
        None,
        "Identities never trained on, to watch progress and, without --test, to calibrate; null = a tenth, of few "
        "people up to five, at most 40.",
        ge=0,
    )
    validate_every: int = setting(5, "Epochs from one look at them to the next.", ge=1)
    patience: int = setting(
        0,
        "Stop after so many looks without a better mAP and keep the best network; 0 = run to the end, keep the last.",
        ge=0,
    )


class LossSettings(Settings):
    """What is asked of the network."""

    name: str = setting(
        "triplet", "triplet, quadruplet, contrastive, constellation, centroid or hierarchical, by their papers' names."
    )
    miner: dict[int, str] = setting(
        {1: "batch_hard"},
        "Which triplets are learned from: one name, or each miner from its epoch on, {1: semi_hard, 20: batch_hard}. "
        "In the batch: batch_all, batch_hard, semi_hard, distance_weighted. In the whole set: offline_hard, "
        "offline_semi_hard, offline_easy.",
    )
    offline_every: int = setting(5, "Epochs from one offline mining to the next; it looks at every crop.", ge=1)
    unit_length: bool = setting(False, "true = bring vectors to length 1 before the loss; distance_weighted needs it.")
    metric: Literal["euclidean", "squared_euclidean", "cosine"] = setting(
        "cosine", "Distance of the loss: euclidean, squared_euclidean or cosine (1 - cos, 0..2)."
    )
    margin: float | None = setting(
        0.3, "Margin, in units of that distance; null = the soft margin log(1 + exp(x)).", ge=0
    )
    metric_weight: float = setting(1.0, "Weight of this loss; 0 trains the classifier alone.", ge=0)
    classifier_weight: float = setting(
        1.0, "Weight of the cross-entropy on the BNNeck beside it; 0 trains without a classifier.", ge=0
    )
    classifier_rate: float = setting(
        10.0, "Learning rate of the classifier in multiples of the network's: it starts from nothing.", gt=0
    )
    label_smoothing: float = setting(0.1, "Share of the classifier's target given to the other identities.", ge=0, lt=1)

    @field_validator("miner", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {1: value} if isinstance(value, str) else value


class DistillationSettings(Settings):
    """A teacher whose embeddings the network learns to give, for corrupted crops too."""

    teacher: str | None = setting(
        None,
        "An appearance network (.safetensors, .onnx, .xml) that sees the clean crops; null = no teacher. Name it, its "
        "licence and its training data where the result is published.",
    )
    weight: float = setting(
        20.0,
        "Weight of the distance to the teacher's vector beside the other losses. Raise it for a good teacher.",
        gt=0,
    )
    mixtures: int = setting(
        0,
        "Synthetic people made of the training crops (one's top, another's legs, other colours) that the teacher "
        "describes, too. Against overfitting.",
        ge=0,
    )
    mixtures_per_crop: float = setting(1.0, "So many of them in a batch for each crop.", gt=0, le=64)
    pictures: list[str] = setting(
        [],
        "Folders of more crops without identities, such as those of track --crops: synthetic people are made of these, "
        "too. Take them from the cameras the network is for.",
    )
    fresh_mixtures: float = setting(
        0.0,
        "As many synthetic people for each crop of a batch, new in every batch; the teacher describes them as they are "
        "made, which takes its time in every step.",
        ge=0,
        le=64,
    )


class AugmentSettings(Settings):
    """How crops are changed, each with its probability (0 = never, 1 = always)."""

    mirror: float = setting(0.5, "Left to right.", ge=0, le=1)
    jitter: float = setting(
        1.0, "Shift (up to 8 %) and scale (12 %), like the edges of a detector's boxes.", ge=0, le=1
    )
    occlusion: float = setting(0.2, "Part of another crop of the batch in front: people hide people.", ge=0, le=1)
    erasing: float = setting(0.4, "A rectangle of one colour. Helps on clean pictures, hurts on bad ones.", ge=0, le=1)
    shadow: float = setting(0.1, "A cast shadow with a straight edge.", ge=0, le=1)
    blur: float = setting(0.2, "Motion blur of random angle and length, or defocus.", ge=0, le=1)
    light: float = setting(0.5, "Night with noise to over-exposure, contrast, colour temperature.", ge=0, le=1)
    jpeg: float = setting(0.1, "JPEG of quality 15 to 70.", ge=0, le=1)


class ComputeSettings(Settings):
    """How it is computed."""

    precision: Literal["float32", "bfloat16"] = setting(
        "bfloat16",
        "bfloat16 is faster on GPUs and CPUs with AVX512-BF16 or AMX, slower on older ones. Losses: float32.",
    )
    seed: int = setting(0, "Same seed, same data, same machine: same network.")
    threads: int = setting(0, "CPU threads; 0 = PyTorch's choice.", ge=0)
    tensorboard: bool = setting(False, "true = write curves to OUTPUT/tensorboard (needs reid-tracker[train]).")


class TrainConfig(Settings):
    """All settings of ``reid-tracker train``."""

    licence: str = setting("", "Under what terms the training data may be used; written into the checkpoint.")
    network: NetworkSettings = Field(default_factory=NetworkSettings, description="What is trained.")
    batch: BatchSettings = Field(default_factory=BatchSettings, description="Which crops are learned from together.")
    schedule: ScheduleSettings = Field(
        default_factory=ScheduleSettings,
        description="How long, how fast. An epoch shows every identity once, but for one that is left over.",
    )
    loss: LossSettings = Field(default_factory=LossSettings, description="What is asked of the network.")
    distillation: DistillationSettings = Field(
        default_factory=DistillationSettings,
        description="A teacher whose embeddings the network learns to give, for corrupted crops too.",
    )
    augment: AugmentSettings = Field(
        default_factory=AugmentSettings, description="How often a crop is changed, and how (0 = never, 1 = always)."
    )
    compute: ComputeSettings = Field(default_factory=ComputeSettings, description="How it is computed.")
