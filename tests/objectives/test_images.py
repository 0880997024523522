"""What is learnt of images: views keep rows apart, losses are those of an open formula, gradients turn where they should."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from data_pipelines.loss_grid import LossGrid
from data_pipelines.schema import LABELS, Batch, EnergyGrid
from spt_jax.config import ImagesConfig, LatentConfig
from spt_jax.model.latent import EdgeVAE, reversed_gradient
from spt_jax.objectives.images import MIXED, Images

GRID = LossGrid(521.6, 1.2, 44, edge="O K", front=(463.0, 521.0), groups=8, classes=("a", "b", "c"))


def edges() -> np.ndarray:
    """(3, points) of mean 1."""
    energy = GRID.relative()
    found = np.stack([(energy > 532) * (1 + 2 * np.exp(-(((energy - line) / 2) ** 2))) for line in (535, 541, 549)])
    return found / found.mean(axis=1, keepdims=True)


def batch_of(rng, calculated: int, measured: int) -> Batch:
    kind = rng.integers(0, 3, calculated + measured)
    rows = np.zeros((calculated + measured, GRID.length), np.float32)
    rows[:, GRID.groups :] = edges()[kind]
    under = 2e3 * (GRID.middles() / 532) ** -3.0 * GRID.widths()
    pixels = under + np.pad(600 * edges()[kind], ((0, 0), (GRID.groups, 0)))
    rows[calculated:] = rng.poisson(pixels)[calculated:]
    labels, mask = np.zeros((len(rows), LABELS), np.float32), np.zeros((len(rows), LABELS), bool)
    labels[:, 0], labels[calculated:, 1], mask[:, 1] = kind, 1, True
    mask[:calculated, 0] = True
    return Batch(rows, np.full(len(rows), 8, np.int32), labels, mask)


@pytest.fixture(scope="module")
def model():
    config = LatentConfig(trunk=None, hidden=16, latent=4, directions=8, hidden_layers=1)
    sums = {"logs": GRID.logs(), "widths": GRID.widths(), "classes": 3}
    spread = edges() - edges().mean(axis=0)
    covariance = spread.T @ spread + 1e-3 * np.eye(GRID.points)
    return EdgeVAE(config, GRID.relative(), edges().mean(axis=0), covariance, **sums, rngs=nnx.Rngs(params=0))


def objective(**config) -> Images:
    return Images(ImagesConfig(**config), GRID)


def views(own, batch, seed=0):
    keys = jax.random.split(jax.random.key(seed), len(batch.spectrum))
    return jax.jit(own.views)(jax.tree.map(jnp.asarray, batch), keys), keys


def test_shares_sum_to_one_and_pixels_are_not_mixed(rng):
    batch = batch_of(rng, 40, 24)
    rows, _ = views(objective(mixed=0.99), batch)
    share = np.asarray(rows.share)
    np.testing.assert_allclose(share.sum(axis=1), 1, atol=1e-5)
    assert (share >= 0).all() and (share[40:].max(axis=1) == 1).all()
    np.testing.assert_array_equal(np.asarray(rows.domain), batch.labels[:, 1])
    assert not np.asarray(rows.labelled)[40:].any() and np.asarray(rows.labelled)[:40].all()
    np.testing.assert_array_equal(rows.kind[:40], share[:40].argmax(axis=1))
    # Both parts of a pixel are its counts; a mixture has classes of its neighbours alone.
    np.testing.assert_allclose((rows.seen + rows.target)[40:], batch.spectrum[40:], rtol=1e-4)
    own = np.eye(3)[batch.labels[:, 0].astype(int)]
    near = sum(np.roll(own, i, axis=0) for i in range(MIXED)) > 0
    assert not share[:40][~near[:40]].any()
    pure, _ = views(objective(mixed=0.0), batch)
    np.testing.assert_array_equal(pure.share, own)
    assert (share[:40].max(axis=1) < 0.999).mean() > 0.5


def test_losses_are_finite_and_each_is_of_its_rows(rng, model):
    own = objective(align=0.5)
    loss = jax.jit(lambda rows, keys: own.loss(model, rows, keys))
    batch = batch_of(rng, 16, 16)
    rows, keys = views(own, batch)
    both = np.asarray(loss(rows, keys))
    assert both.shape == (len(own.names),) and np.isfinite(both).all() and (both > 0).all()
    # Of pixels alone, without a label, no class is judged.
    pixels = batch._replace(labels=batch.labels.copy(), mask=batch.mask.copy())
    pixels.labels[:, 1], pixels.mask[:, 0] = 1, False
    alone = dict(zip(own.names, np.asarray(loss(*views(own, pixels))), strict=True))
    assert alone["phase"] == alone["share"] == alone["nuisance"] == 0 and alone["counts"] > 0
    dark = pixels._replace(spectrum=np.zeros_like(pixels.spectrum))
    assert np.isfinite(np.asarray(loss(*views(own, dark)))).all()


def test_the_discriminator_turns_the_gradient_round(rng, model):
    x = jnp.asarray(rng.normal(size=(5, 4)), jnp.float32)
    np.testing.assert_array_equal(reversed_gradient(x), x)
    plain = jax.grad(lambda z: jnp.sin(z).sum())(x)
    np.testing.assert_array_equal(jax.grad(lambda z: jnp.sin(reversed_gradient(z)).sum())(x), -plain)
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def gradients(sign):
        def domain(params):
            made = nnx.merge(graph, params, rest)
            latent = made.encode(jnp.asarray(batch.spectrum), jnp.asarray(batch.atomic_number))["latent"]
            hidden = made.judge(reversed_gradient(latent) if sign < 0 else latent)
            return made.judged(jax.nn.gelu(hidden)).sum()

        return jax.jit(jax.grad(domain))(params)

    batch = batch_of(rng, 4, 4)
    one, other = gradients(1), gradients(-1)
    np.testing.assert_allclose(one["said"]["kernel"][...], -other["said"]["kernel"][...], rtol=1e-5)
    np.testing.assert_allclose(one["judge"]["kernel"][...], other["judge"]["kernel"][...], rtol=1e-5)
    assert np.abs(one["said"]["kernel"][...]).max() > 0


def test_the_best_model_is_that_of_the_truth(rng):
    """Where the decoder draws the truth the deviance is that of noise, 1; elsewhere more."""
    own = objective(mixed=0.0)
    batch = batch_of(rng, 0, 48)
    rows, _ = views(own, batch)
    from spt_jax.model.front import EdgeFront

    front = EdgeFront(GRID.logs(), GRID.widths(), GRID.groups)
    said = front(rows.seen)._asdict()
    told = type("Told", (), {"front": front})
    kind = batch.labels[:, 0].astype(int)
    right, wrong = (
        np.asarray(own._deviance(told, said, jnp.asarray(edges()[k], jnp.float32), rows))
        for k in (kind, (kind + 1) % 3)
    )
    # Three numbers of each row are fitted, and large counts are judged less strictly.
    assert 0.7 < right.mean() < 1.1 and wrong.mean() > 2 * right.mean()


def test_scores_are_one_of_the_truth_and_zero_of_a_guess(rng):
    own, batch = objective(), batch_of(rng, 200, 20)
    rows = own._judged(batch)
    share = np.asarray(rows.share)
    truth = {"phase": np.eye(3)[np.asarray(rows.kind)], "share": np.log(np.maximum(share, 1e-9))}
    assert own.score(truth, batch)["phase"] == 1 and own.score(truth, batch)["share"] > 0.999
    guess = {"phase": np.zeros_like(share), "share": np.zeros_like(share)}
    assert abs(own.score(guess, batch)["phase"]) < 0.25 and own.score(guess, batch)["share"] <= 1e-6
    np.testing.assert_array_equal(own.shown(batch), own.shown(batch))
    np.testing.assert_allclose(own.shown(batch)[200:], batch.spectrum[200:])


def test_other_data_are_refused():
    from data_pipelines.errors import RunError
    from spt_jax.config import JointConfig, LabelsConfig, MaskedConfig
    from spt_jax.objectives.objective import make_objective

    with pytest.raises(RunError, match="objective images learns spectrum images"):
        make_objective(ImagesConfig(), None, EnergyGrid())
    for config in (LabelsConfig(), MaskedConfig(), JointConfig(LabelsConfig())):
        with pytest.raises(RunError, match="this dataset has spectrum images; train the preset image"):
            make_objective(config, None, GRID)
