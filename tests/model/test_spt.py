import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from data_pipelines.errors import UserError
from spt_jax.config import ExecutionConfig, ModelConfig
from spt_jax.model.bands import band_strength
from spt_jax.model.heads import HeadSpec
from spt_jax.model.kernels import meant_for
from spt_jax.model.spt import SPT, BandBlock
from spt_jax.presets import ALL_PRESETS

LENGTH = 40
ENERGY = np.linspace(2, 73.5, LENGTH)
HEADS = (HeadSpec("CN", 11), HeadSpec("NNRS", 0))


def parts(rng, **fields):
    """Graph, parameters and constants of a small model, made in one compiled program."""
    execution = ExecutionConfig(**{name: fields.pop(name) for name in ("folding", "dtype", "remat") if name in fields})
    config = ModelConfig(**{"width": 16, "hidden": 32, "blocks": 1, **fields})

    def init(key):
        given = (config, HEADS, ENERGY, np.tanh(ENERGY / 10), 0.01 * np.eye(LENGTH), execution)
        model = SPT(*given, rngs=nnx.Rngs(params=key))
        return nnx.split(model, nnx.Param, ...)

    return jax.jit(init)(jax.random.key(int(rng.integers(1000))))


def make(rng, **fields):
    graph, params, constants = parts(rng, **fields)
    return jax.jit(lambda *inputs: nnx.merge(graph, params, constants)(*inputs))


def batch(rng, size: int) -> tuple[jax.Array, jax.Array]:
    spectra = np.tanh(ENERGY / 10) + 0.1 * rng.normal(size=(size, LENGTH))
    return jnp.asarray(spectra, jnp.float32), jnp.full(size, 29)


@pytest.mark.parametrize("fields", [{}, {"band_mode": "fixed"}, {"attention": "gatv2"}, {"attention": "none"}])
def test_batch_prediction_is_single_prediction(rng, fields):
    model, (spectra, numbers) = make(rng, **fields), batch(rng, 6)
    together = model(spectra, numbers)
    for row in range(6):
        alone = model(spectra[row : row + 1], numbers[:1])
        np.testing.assert_array_equal(alone["bands"][0], together["bands"][row])
        for head in ("CN", "NNRS"):
            np.testing.assert_allclose(alone[head][0], together[head][row], atol=2e-6)


def test_batch_mode_depends_on_batch_mates(rng):
    model, (spectra, numbers) = make(rng, band_mode="batch"), batch(rng, 6)
    assert any(
        (model(spectra[i : i + 1], numbers[:1])["bands"][0] != model(spectra, numbers)["bands"][i]).any()
        for i in range(6)
    )


def test_bfloat16_is_close_and_its_outputs_float32(rng):
    seed = int(rng.integers(1000))
    spectra, numbers = batch(rng, 4)
    exact = make(np.random.default_rng(seed), band_mode="fixed")(spectra, numbers)
    coarse = make(np.random.default_rng(seed), band_mode="fixed", dtype="bfloat16")(spectra, numbers)
    assert coarse["CN"].dtype == jnp.float32
    np.testing.assert_allclose(coarse["CN"], exact["CN"], atol=0.1)


def test_dropout_only_with_a_key(rng):
    model, (spectra, numbers) = make(rng), batch(rng, 2)
    plain = model(spectra, numbers)["CN"]
    np.testing.assert_array_equal(plain, model(spectra, numbers)["CN"])
    first, second = (jax.random.split(jax.random.key(seed), 2) for seed in (1, 2))
    dropped = model(spectra, numbers, first)["CN"]
    assert not np.allclose(plain, dropped) and not np.allclose(dropped, model(spectra, numbers, second)["CN"])


def test_dropout_belongs_to_the_row_not_to_the_batch(rng):
    model, (spectra, numbers) = make(rng), batch(rng, 4)
    keys = jax.random.split(jax.random.key(1), 4)
    together = model(spectra, numbers, keys)["CN"]
    for rows in (slice(0, 2), slice(2, 4)):
        np.testing.assert_allclose(model(spectra[rows], numbers[rows], keys[rows])["CN"], together[rows], atol=2e-6)


@pytest.mark.parametrize("mode", ["per_sample", "batch", "fixed"])
def test_both_ways_of_folding_give_the_same_outputs_and_gradients(rng, mode):
    (spectra, numbers), seed = batch(rng, 3), int(rng.integers(1000))

    def run(folding):
        graph, params, rest = parts(
            np.random.default_rng(seed), band_mode=mode, kernel=5, folding=folding, highest_band=5, bands=2
        )

        def loss(params):
            out = nnx.merge(graph, params, rest)(spectra, numbers)
            return out["CN"].std() + out["NNRS"].sum(), out

        (_, out), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
        return out, jax.tree.leaves(gradient)

    (slow, slow_gradient), (out, gradient) = run("taps"), run("spectral")
    for name in ("CN", "NNRS", "bands"):
        np.testing.assert_allclose(out[name], slow[name], atol=1e-5)
    for ours, theirs in zip(gradient, slow_gradient, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * max(1, np.abs(theirs).max()))


def test_remat_changes_nothing(rng):
    (spectra, numbers), seed = batch(rng, 3), int(rng.integers(1000))
    fields = {"folding": "spectral", "band_mode": "fixed", "bands": 1, "attention": "none"}

    def gradient(**more):
        graph, params, rest = parts(np.random.default_rng(seed), **fields, **more)
        return jax.jit(jax.grad(lambda p: nnx.merge(graph, p, rest)(spectra, numbers)["CN"].std()))(params)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), gradient(), gradient(remat=True))


def test_band_choice_has_no_gradient_but_the_parameters_do(rng):
    (graph, params, rest), (spectra, numbers) = parts(rng), batch(rng, 3)
    gradient = jax.jit(jax.grad(lambda p: nnx.merge(graph, p, rest)(spectra, numbers)["CN"].std()))(params)
    dead = [path for path, leaf in jax.tree.leaves_with_path(gradient) if not np.abs(leaf).sum() > 0]
    assert not dead


@pytest.mark.parametrize(
    "fields",
    [{"bands": 13}, {"bands": -1}, {"kernel": 4}, {"attention_heads": 3}, {"window": 40}, {"highest_band": 21}],
)
def test_impossible_shapes_are_refused(rng, fields):
    with pytest.raises(UserError):
        make(rng, **fields)


def test_presets_build():
    for preset in ALL_PRESETS.values():
        assert preset.__doc__
        preset()


@pytest.mark.parametrize("folding", ["taps", "spectral"])
@pytest.mark.parametrize("fusion", ["amplitude", "mean"])
def test_fusion_without_a_query_weighs_by_strength_or_not_at_all(rng, fusion, folding):
    model = nnx.merge(*parts(rng, fusion=fusion, folding=folding, bands=3, highest_band=6))
    spectra, numbers = batch(rng, 3)
    outputs, (inside,) = jax.jit(model.explained)(spectra, numbers)
    if fusion == "mean":
        np.testing.assert_allclose(inside.shares, 1 / 3, rtol=1e-5)
        return
    h = model._embed(model.band_input(spectra, numbers)) + model.position[...][:, None] + model.element(numbers)
    strength = np.asarray(band_strength(model.band_norms[0](h), 6))
    chosen = np.take_along_axis(strength, np.asarray(outputs["bands"])[:, 0] - 1, axis=1)
    weight = np.exp(chosen - chosen.max(axis=1, keepdims=True))
    np.testing.assert_allclose(inside.shares, weight / weight.sum(axis=1, keepdims=True), rtol=1e-3, atol=1e-6)


def test_without_bands_only_the_graph_is_left(rng):
    model, (spectra, numbers) = nnx.merge(*parts(rng, bands=0)), batch(rng, 4)
    outputs, (inside,) = jax.jit(model.explained)(spectra, numbers)
    assert outputs["bands"].shape == (4, 1, 0)
    assert inside.shares.shape == (4, 0) and inside.attention is not None
    np.testing.assert_allclose(jax.jit(model)(spectra[:1], numbers[:1])["CN"], outputs["CN"][:1], atol=1e-5)


def test_without_bands_and_graph_the_dense_layers_are_left(rng):
    model, (spectra, numbers) = nnx.merge(*parts(rng, bands=0, attention="none")), batch(rng, 4)
    model = jax.jit(model)
    outputs = model(spectra, numbers)
    np.testing.assert_allclose(model(spectra[:1], numbers[:1])["CN"], outputs["CN"][:1], atol=1e-5)
    assert np.ptp(outputs["CN"], axis=0).max() > 0


def test_how_bands_are_folded_is_for_the_platform_that_a_program_is_for(rng):
    """A network built on a CPU, compiled ahead for an accelerator: one matrix there, columns and rows apart here."""
    config = ModelConfig(width=8, kernel=11, blocks=1)
    block = BandBlock(config, ExecutionConfig(), rngs=nnx.Rngs(0))
    h, bands = jnp.zeros((24, 2, 8)), jnp.ones((2, 3), jnp.int32)
    programs = {}
    for platform in ("cpu", "tpu"):
        with meant_for(platform):
            programs[platform] = str(jax.make_jaxpr(lambda h, bands: block(h, bands))(h, bands))
    assert programs["cpu"] != programs["tpu"]
