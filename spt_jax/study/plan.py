"""What a study fits. Every model gets the same number of settings to choose from, on the validation split."""

from __future__ import annotations

from dataclasses import dataclass, replace

from spt_jax.config import Config
from spt_jax.peers.trees import TREES, TreeSettings
from spt_jax.presets import PEERS
from spt_jax.robustness.perturb import PERTURBATIONS
from spt_jax.study.jobs import Settings
from spt_jax.study.tables import SPT

NAMES = {
    "mlp": "MLP",
    "cnn": "CNN",
    "ft_transformer": "FT-Transformer",
    "amformer": "AMFormer",
    "decision_tree": "Decision Tree",
    "random_forest": "Random Forest",
    "extra_trees": "Extra Trees",
    "xgboost": "XGBoost",
}
# Slowest last, so that a study that is stopped has most of its models.
TREE_ORDER = ("decision_tree", "extra_trees", "random_forest", "xgboost")
STRONGEST_NOISE = max(case.size for case in PERTURBATIONS if case.kind == "noise")


@dataclass(frozen=True)
class Competitor:
    """A model and the settings it may choose from."""

    model: str
    candidates: tuple[Settings, ...]


@dataclass(frozen=True)
class Plan:
    """The models, SPT first, and how many seeds each is fitted with.

    experts: also one SPT per descriptor. with_noise: models trained once more on noisy spectra. split_by_site: models
    tried on that split too. most_examples: of training, fewer whole materials where there are more; 0 takes all.
    """

    competitors: tuple[Competitor, ...]
    seeds: int
    experts: bool = True
    with_noise: tuple[str, ...] = (SPT, NAMES["mlp"], NAMES["cnn"], NAMES["extra_trees"])
    split_by_site: tuple[str, ...] = (SPT, NAMES["extra_trees"])
    most_examples: int = 0


def full(preset: Config, settings: int = 3, seeds: int = 3) -> Plan:
    """So many settings each, three at the most, and so many seeds."""
    models = {SPT: preset.model, **{NAMES[kind]: peer for kind, peer in PEERS.items()}}
    networks = {name: _candidates(replace(preset, model=model)) for name, model in models.items()}
    trees = {NAMES[kind]: (TREES[kind], *_tree_variants(kind)) for kind in TREE_ORDER}
    return Plan(tuple(Competitor(name, each[:settings]) for name, each in (networks | trees).items()), seeds)


def quick(preset: Config) -> Plan:
    """One setting and one seed each, a thousand spectra, trained briefly: shows what a study gives, proves nothing."""
    train = replace(
        preset.train, epochs=min(preset.train.epochs, 8), warmup_epochs=1.0, validate_every=4, batch_size=32
    )
    spt = replace(preset, model=replace(preset.model, width=24), train=train)
    networks = tuple(Competitor(NAMES[kind], (replace(spt, model=peer),)) for kind, peer in PEERS.items())
    trees = tuple(Competitor(NAMES[kind], (replace(TREES[kind], trees=50),)) for kind in TREE_ORDER)
    models = (Competitor(SPT, (spt,)), *networks, *trees)
    return Plan(models, 1, with_noise=(), split_by_site=(NAMES["extra_trees"],), most_examples=1000)


def noisy(settings: Settings) -> Settings:
    """The same settings, trained on spectra with noise up to the strongest that a study tries."""
    if isinstance(settings, TreeSettings):
        return replace(settings, noise=STRONGEST_NOISE)
    return replace(settings, objective=replace(settings.objective, noise=STRONGEST_NOISE))


def _candidates(config: Config) -> tuple[Config, ...]:
    """Trained as the preset says, a third as long, or that with more dropout: for SPT and the other networks alike."""
    model, train = config.model, config.train
    epochs = max(train.epochs // 3, 1)
    shorter = replace(config, train=replace(train, epochs=epochs, warmup_epochs=min(train.warmup_epochs, epochs)))
    return config, shorter, replace(shorter, model=replace(model, dropout=model.dropout + 0.1))


def _tree_variants(kind: str) -> tuple:
    tree = TREES[kind]
    match kind:
        case "decision_tree":
            return replace(tree, min_leaf=15), replace(tree, balanced=True)
        case "xgboost":
            return replace(tree, depth=4), replace(tree, learning_rate=0.05)
    return replace(tree, max_features=0.3), replace(tree, max_features=0.3, balanced=True)
