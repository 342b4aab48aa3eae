"""One frozen settings tree, read from TOML and validated once, at the door.

Rules of this file:
    * The same tree serves simulation and deployment; nothing below reads a file or a variable.
    * Unknown keys, wrong types and out-of-range values are refused in one line that names the
      file, the key, what was found and what was expected.
    * Every default is safe. A setting that removes a protection is named for what it removes and
      makes ``Settings.non_private`` say so.
    * ``digest`` identifies the effective settings; it is in every run record.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, cast, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from secure_pfnas.errors import ExitCode, UserError

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
COHORT_MAX = 1000
Digits = Annotated[str, Field(pattern=r"^[0-9]{1,2}(-[0-9]{1,2})*$")]
DeviceClass = Literal["micro", "edge", "gateway"]
DEVICE_CLASSES: tuple[DeviceClass, ...] = get_args(DeviceClass)
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]


class Section(BaseModel):
    """A frozen table of the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FederationSettings(Section):
    """``[federation]``: who takes part, and for how long."""

    name: Name = "fed"
    clients: int = Field(default=20, ge=2, le=10_000, description="devices enrolled")
    cohort: int = Field(default=20, ge=2, le=COHORT_MAX, description="devices asked in a round")
    rounds: int = Field(default=8, ge=1, le=100_000)
    seed: int = Field(
        default=1, ge=0, le=2**63 - 1, description="partition, initial weights, draws"
    )


class DataSettings(Section):
    """``[data]``: real data and how it is spread over simulated devices."""

    source: str = Field(
        default="auto",
        min_length=1,
        description="auto, fashion-mnist-14, fashion-mnist, digits or an .npz",
    )
    partition: Literal["dirichlet", "shards", "quantity", "device-class", "groups"] = Field(
        default="dirichlet", description="how examples are dealt, see docs/data.md"
    )
    alpha: float = Field(default=0.3, gt=0, le=1000, description="Dirichlet concentration")
    shards_per_client: int = Field(default=2, ge=1, le=1000, description="with shards")
    smallest_client: int = Field(
        default=40, ge=5, le=200_000, description="examples, with quantity; a fifth validates"
    )
    largest_client: int = Field(default=2000, ge=5, le=200_000, description="with quantity")
    shift: Literal["none", "resolution", "blur", "rotation"] = Field(
        default="none", description="how devices' images differ"
    )
    shift_by: Literal["client", "device-class"] = "client"
    shift_most: float = Field(
        default=2.0, ge=0, le=180, description="down-sampling factor, blur in pixels, or degrees"
    )
    train_per_client: int = Field(default=400, ge=1, le=100_000)
    validation_per_client: int = Field(default=150, ge=1, le=100_000)
    test_per_client: int = Field(default=200, ge=1, le=100_000)
    minimum_per_client: int = Field(default=32, ge=1, le=100_000)

    @model_validator(mode="after")
    def _sizes_ascend(self) -> DataSettings:
        if self.smallest_client > self.largest_client:
            raise ValueError(
                f"smallest_client is {self.smallest_client}, more than "
                f"largest_client = {self.largest_client}"
            )
        return self


class SpaceSettings(Section):
    """``[space]``: what is searched."""

    name: str = Field(default="compact_cnn", pattern=r"^[a-z0-9_]{1,40}$")
    channels: int = Field(default=0, ge=0, le=3, description="0 = the data's")
    height: int = Field(default=0, ge=0, le=64, description="pixels; 0 = the data's")
    width: int = Field(default=0, ge=0, le=64, description="pixels; 0 = the data's")
    classes: int = Field(default=0, ge=0, le=1000, description="0 = the data's")


class AgentSettings(Section):
    """``[agent]``: who chooses."""

    kind: Literal["critic", "reinforce", "random", "fixed"] = Field(
        default="reinforce",
        description="random and fixed never learn; uniform is random's old name",
    )
    faithful: bool = Field(
        default=False, description="reinforce with the authors' published settings, nothing else's"
    )
    start: str = Field(
        default="middle",
        max_length=400,
        description="where the search starts, and what fixed runs: anywhere, smallest, middle, "
        "largest or the number of each decision's option, such as 1-0-2",
    )
    deviation: float = Field(
        default=0.3, gt=0, le=1, description="how often a decision leaves the start at first"
    )
    floor: float = Field(
        default=0.1, ge=0, lt=1, description="share of the start's policy, at first"
    )
    floor_last: float = Field(default=0.1, ge=0, lt=1, description="and at the end of the search")
    commit: float = Field(
        default=0.4,
        ge=0,
        le=1,
        description="share of the rounds that search; then every device keeps what it has; 1 = all",
    )
    learning_rate: float = Field(default=0.1, gt=0, le=0.1, description="of reinforce")
    baseline_decay: float = Field(
        default=0.7, ge=0, lt=1, description="of reinforce: memory of the reward baseline"
    )
    pooled_effect: float = Field(
        default=0.03, gt=0, le=1, description="of critic: how far an option may move everybody"
    )
    personal_effect: float = Field(
        default=0.01, gt=0, le=1, description="of critic: and one device beyond that"
    )
    memory: float = Field(
        default=0.99, gt=0, le=1, description="of critic: what a report weighs at the next one"
    )

    @field_validator("kind", mode="before")
    @classmethod
    def _old_name(cls, kind: object) -> object:
        return "random" if kind == "uniform" else kind

    @model_validator(mode="after")
    def _faithful_is_reinforce(self) -> AgentSettings:
        if self.faithful and self.kind in {"random", "fixed"}:
            raise ValueError(f"faithful is reinforce; found kind {self.kind}")
        return self


class RewardSettings(Section):
    """``[reward]``: noised accuracy minus public costs, and every device's hard limits."""

    latency: NonNegative = 0.05
    memory: NonNegative = 0.05
    latency_table: str = Field(
        default="",
        max_length=4096,
        description="a file of costs measure, read into [latency]; without one a nominal table",
    )
    device_class: DeviceClass = Field(
        default="edge", description="of a device that no share of [devices] claims"
    )
    max_parameters: int = Field(default=0, ge=0, description="0 = no limit")
    max_macs: int = Field(default=0, ge=0, description="0 = no limit")
    max_activation_bytes: int = Field(default=0, ge=0, description="0 = no limit")


class DeviceClassSettings(Section):
    """``[devices.CLASS]``: what a device of this class can bear, and how many there are."""

    share: Fraction = Field(default=0.0, description="of the federation's simulated devices")
    max_parameters: int = Field(default=0, ge=0, description="0 = no limit")
    max_macs: int = Field(default=0, ge=0, description="0 = no limit")
    max_activation_bytes: int = Field(default=0, ge=0, description="0 = no limit")


class DevicesSettings(Section):
    """``[devices]``: the classes of devices; what no class claims is ``reward.device_class``."""

    micro: DeviceClassSettings = DeviceClassSettings()
    edge: DeviceClassSettings = DeviceClassSettings()
    gateway: DeviceClassSettings = DeviceClassSettings()

    def of(self, device_class: DeviceClass) -> DeviceClassSettings:
        """Return one class's settings."""
        named: dict[DeviceClass, DeviceClassSettings] = {
            "micro": self.micro,
            "edge": self.edge,
            "gateway": self.gateway,
        }
        return named[device_class]

    @model_validator(mode="after")
    def _shares_fit(self) -> DevicesSettings:
        total = sum(self.of(name).share for name in DEVICE_CLASSES)
        if total > 1 + 1e-9:
            raise ValueError(f"the shares sum to {total:g}, expected at most 1")
        return self


class LatencyClassSettings(Section):
    """``[latency.CLASS]``: seconds of a training step, as ``costs measure`` found them."""

    step_s: NonNegative = Field(default=0.0, description="for the step itself")
    operation_s: NonNegative = Field(default=0.0, description="for each operation of the network")
    mac_s: NonNegative = Field(default=0.0, description="for each multiply-accumulate")
    activation_s: NonNegative = Field(default=0.0, description="for each float moved")
    error: NonNegative = Field(default=0.0, description="mean relative error, held out")

    @property
    def is_measured(self) -> bool:
        """Whether there is anything in it."""
        return max(self.step_s, self.operation_s, self.mac_s, self.activation_s) > 0


class LatencySettings(Section):
    """``[latency]``: a measured table, and what it was measured for; filled in by the tools."""

    space: str = Field(default="", max_length=40, description="empty: nothing was measured")
    channels: int = Field(default=0, ge=0, le=3)
    height: int = Field(default=0, ge=0, le=1024)
    width: int = Field(default=0, ge=0, le=1024)
    classes: int = Field(default=0, ge=0, le=1000)
    batch_size: int = Field(default=0, ge=0, le=4096)
    dp_sgd: bool = False
    micro: LatencyClassSettings = LatencyClassSettings()
    edge: LatencyClassSettings = LatencyClassSettings()
    gateway: LatencyClassSettings = LatencyClassSettings()

    def of(self, device_class: DeviceClass) -> LatencyClassSettings:
        """Return one class's line."""
        named: dict[DeviceClass, LatencyClassSettings] = {
            "micro": self.micro,
            "edge": self.edge,
            "gateway": self.gateway,
        }
        return named[device_class]

    @property
    def facts(self) -> tuple[str, int, int, int, int, int, bool]:
        """What a measurement depends on, besides the machine."""
        shape = (self.channels, self.height, self.width)
        return (self.space, *shape, self.classes, self.batch_size, self.dp_sgd)

    @property
    def what(self) -> str:
        """The facts in words."""
        return (
            f"{self.space} on {self.channels}×{self.height}×{self.width} images of "
            f"{self.classes} classes, batches of {self.batch_size}"
            f"{', DP-SGD' if self.dp_sgd else ''}"
        )


class TrainingSettings(Section):
    """``[training]``: what a device does with its subnet."""

    strategy: str = Field(default="perfedrlnas", pattern=r"^[a-z0-9_]{1,40}$")
    epochs: int = Field(default=2, ge=1, le=100)
    batch_size: int = Field(default=32, ge=1, le=4096)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: Positive = 0.08
    final_rate: float = Field(
        default=0.3, gt=0, le=1, description="the last round's learning rate, of the first's"
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="without effect under adamw")
    weight_decay: NonNegative = 5e-4
    personal_head: bool = Field(default=True, description="of perfedrlnas and static_nested")
    personal_norm: bool = Field(default=False, description="scales and shifts stay, too (FedBN)")
    architectures: tuple[Digits, ...] = Field(
        default=(),
        description="what is run without a search, smallest first, such as 0-1-0; the option's "
        "number for each decision",
    )
    normalise: Literal["covered", "all"] = "covered"


class PrivacySettings(Section):
    """``[privacy]``: what may be released."""

    reward_epsilon: float = Field(default=2.0, gt=0, le=1000)
    reward_noise: bool = Field(default=True, description="false is NON-PRIVATE")
    dp_sgd: bool = False
    train_epsilon: float = Field(default=8.0, gt=0, le=1000, description="used with dp_sgd")
    delta: float = Field(default=0.0, ge=0, lt=0.1, description="0 = min(1e-5, 1/(10 n0))")
    per_example_clip: Positive = 1.0
    weight_noise: bool = Field(
        default=False, description="noise on every update, inside the masks, for whole clients"
    )
    client_epsilon: float = Field(default=8.0, gt=0, le=1000, description="used with weight_noise")
    seeded_noise: bool = Field(default=False, description="reproducible noise is NON-PRIVATE")


class SecureAggregationSettings(Section):
    """``[secagg]``: how sums are formed."""

    scheme: Literal["masking", "ckks"] = Field(
        default="masking",
        description="ckks: one key that all devices share; only with trust = silo, and no run yet",
    )
    trust: Literal["nobody", "silo"] = Field(
        default="nobody",
        description="silo: the devices trust each other with everything, but not the server",
    )
    masking: bool = Field(default=True, description="false is NON-PRIVATE")
    collusion: int = Field(
        default=3, ge=0, le=30, description="members that may help a hostile server"
    )
    minimum_contributors: int = Field(default=5, ge=2, le=1000)
    minimum_survivors: int = Field(default=6, ge=2, le=4096)
    dropout_margin: int = Field(
        default=1, ge=0, le=100, description="extra members planned for a slot"
    )
    update_clip: float = Field(default=5.0, ge=1e-6, le=1000)
    bits: Literal[16, 20, 24] = 20
    ring_bits: Literal[32, 24] = Field(
        default=32, description="width of a sum; 24 sends 3 bytes a parameter instead of 4"
    )
    suite: Literal["aes-256-ctr", "chacha20"] = Field(
        default="aes-256-ctr",
        description="how masks are made; chacha20 for devices without AES instructions",
    )
    weights: Literal["uniform", "size_bucket"] = Field(
        default="uniform",
        description="size_bucket: 1, 1/2, 1/4, 1/8 or 1/16, by a device's public nominal size",
    )
    prekeys: int = Field(
        default=32, ge=1, le=1000, description="single-use keys a device sends at once"
    )

    @model_validator(mode="after")
    def _contributors_outnumber_collusion(self) -> SecureAggregationSettings:
        if self.minimum_contributors < self.collusion + 2:
            raise ValueError(
                f"minimum_contributors is {self.minimum_contributors}; with collusion = "
                f"{self.collusion} it must be at least {self.collusion + 2}"
            )
        return self

    @model_validator(mode="after")
    def _shared_key_needs_trust(self) -> SecureAggregationSettings:
        if self.scheme == "ckks" and self.trust != "silo":
            raise ValueError(
                'scheme is "ckks", which protects against the server and the broker, not against '
                "the devices: all share one key, and any one of them together with the server "
                'reads every update; set trust = "silo" where they trust each other so far'
            )
        if self.scheme == "ckks" and not self.masking:
            raise ValueError('scheme is "ckks" and masking is false: choose one')
        return self


class DeadlineSettings(Section):
    """``[deadlines]``: seconds the server waits in each phase of a round."""

    enrol_s: Positive = 60.0
    training_s: Positive = 120.0
    commit_s: Positive = 20.0
    reveal_s: Positive = 20.0
    mask: bool = Field(
        default=False,
        description="never ask a class for what its public latency cannot train in training_s",
    )


class Settings(Section):
    """The whole tree."""

    federation: FederationSettings = FederationSettings()
    data: DataSettings = DataSettings()
    space: SpaceSettings = SpaceSettings()
    agent: AgentSettings = AgentSettings()
    reward: RewardSettings = RewardSettings()
    devices: DevicesSettings = DevicesSettings()
    latency: LatencySettings = LatencySettings()
    training: TrainingSettings = TrainingSettings()
    privacy: PrivacySettings = PrivacySettings()
    secagg: SecureAggregationSettings = SecureAggregationSettings()
    deadlines: DeadlineSettings = DeadlineSettings()

    @model_validator(mode="after")
    def _rooms_agree(self) -> Settings:
        if self.federation.cohort > self.federation.clients:
            raise ValueError(
                f"federation.cohort is {self.federation.cohort}, more than "
                f"federation.clients = {self.federation.clients}"
            )
        most = (2**self.secagg.ring_bits - 1) // (2**self.secagg.bits - 1)
        if self.federation.cohort > most:
            raise ValueError(
                f"federation.cohort is {self.federation.cohort}; sums of secagg.bits = "
                f"{self.secagg.bits} with secagg.ring_bits = {self.secagg.ring_bits} hold "
                f"at most {most}"
            )
        need = max(
            self.secagg.minimum_survivors,
            self.secagg.minimum_contributors + self.secagg.dropout_margin,
        )
        if self.federation.cohort < need:
            raise ValueError(
                f"federation.cohort is {self.federation.cohort}; secagg needs at least {need} "
                "(minimum_survivors, minimum_contributors + dropout_margin)"
            )
        return self

    @property
    def non_private(self) -> tuple[str, ...]:
        """Every protection these settings remove; empty for a private run."""
        reasons = {
            "reward noise is off": not self.privacy.reward_noise,
            "masking is off": not self.secagg.masking,
            "noise and keys are seeded": self.privacy.seeded_noise,
            "fedtp shows the server each device's own update": self.training.strategy == "fedtp",
        }
        return tuple(reason for reason, removed in reasons.items() if removed)

    def to_toml(self) -> str:
        """Return the effective settings as a TOML document that loads back to this tree."""
        return tomli_w.dumps(self.model_dump())

    @property
    def digest(self) -> str:
        """SHA-256 of the effective settings, in hexadecimal."""
        return hashlib.sha256(self.to_toml().encode()).hexdigest()


def load_settings(path: Path | None = None, overrides: Sequence[str] = ()) -> Settings:
    """Read, override and validate the settings.

    Args:
        path: A TOML file; ``None`` takes every default.
        overrides: ``section.key=value`` or ``section.table.key=value`` strings; a value is TOML,
            or else plain text.

    Raises:
        UserError: CONFIG, naming the file, the key and what was expected.
    """
    where = str(path) if path else "--set"
    tables = _read(path) if path else {}
    for override in overrides:
        _apply(tables, override)
    _take_in_latency(tables, path.parent if path else Path())
    try:
        return Settings.model_validate(tables)
    except ValidationError as error:
        raise _explained(where, error) from error


def load_latency(path: Path) -> LatencySettings:
    """Read the table that ``costs measure`` has written.

    Raises:
        UserError: CONFIG, where it is none.
    """
    try:
        return LatencySettings.model_validate(_read(path).get("latency"))
    except ValidationError as error:
        raise UserError(
            f"{path}: is no latency table",
            todo="write one with: secure-pfnas costs measure --out FILE.toml",
            code=ExitCode.CONFIG,
        ) from error


def _take_in_latency(tables: dict[str, object], folder: Path) -> None:
    """Put the table that ``reward.latency_table`` names into the settings themselves.

    So the effective settings, their digest and a resumed run hold the table, whatever becomes of
    the file.
    """
    reward = tables.get("reward")
    if not isinstance(reward, dict):
        return
    named = cast("dict[str, object]", reward).pop("latency_table", "")
    if isinstance(named, str) and named:
        tables["latency"] = load_latency(folder / named).model_dump()
    elif named != "":
        cast("dict[str, object]", reward)["latency_table"] = named  # refused by its type


def settings_from(tables: Mapping[str, object]) -> Settings:
    """Validate tables that are already in memory; raises like ``load_settings``."""
    try:
        return Settings.model_validate(dict(tables))
    except ValidationError as error:
        raise _explained("settings", error) from error


def _read(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file",
            todo="give the path of a TOML file, or write one with: secure-pfnas config > FILE",
            code=ExitCode.CONFIG,
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: cannot be read: {error}",
            todo="give a readable UTF-8 TOML file",
            code=ExitCode.CONFIG,
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(
            f"{path}: not valid TOML: {error}",
            todo="mend that line and run again",
            code=ExitCode.CONFIG,
        ) from error


def _apply(tables: dict[str, object], override: str) -> None:
    key, separator, text = override.partition("=")
    *sections, name = key.strip().split(".")
    if not separator or not 1 <= len(sections) <= _DEEPEST or not all((*sections, name)):
        raise UserError(
            f"--set {override}: expected section.key=value",
            todo="write for example: --set federation.rounds=12",
            code=ExitCode.CONFIG,
        )
    table = tables
    for depth, section in enumerate(sections, 1):
        inner = table.setdefault(section, {})
        if not isinstance(inner, dict):
            raise UserError(
                f"--set {override}: [{'.'.join(sections[:depth])}] is not a table",
                todo="mend the file's section",
                code=ExitCode.CONFIG,
            )
        table = cast("dict[str, object]", inner)
    table[name] = _value(text.strip())


_DEEPEST = 2  # [devices.micro]


def _value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _explained(where: str, error: ValidationError) -> UserError:
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    found = first.get("input")
    if first["type"] == "extra_forbidden":
        what = f"{where}: {key}: unknown key"
    elif first["type"] == "value_error":
        what = f"{where}: {key + ': ' if key else ''}{first['msg'].removeprefix('Value error, ')}"
    else:
        what = f"{where}: {key}: {first['msg']}, found {found!r}"
    return UserError(
        what,
        todo="see every key, its default and its range with: secure-pfnas config",
        code=ExitCode.CONFIG,
    )
