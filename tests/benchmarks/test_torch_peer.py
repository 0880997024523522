from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.workload import Workload, batch_of, config_of
from data_pipelines.dataset.statistics import Statistics
from data_pipelines.errors import RunError
from data_pipelines.schema import EnergyGrid
from spt_jax.objectives.labels import task_losses
from spt_jax.objectives.objective import make_objective
from spt_jax.runs.blueprint import Blueprint
from spt_jax.runs.torch_weights import from_torch, to_torch
from spt_jax.training.assemble import Assembly
from spt_jax.training.flat import Flat
from spt_jax.training.optimiser import make_optimiser, make_schedule
from spt_jax.training.sharding import Layout
from spt_jax.training.step import BESIDE


@pytest.fixture
def peer() -> ModuleType:
    pytest.importorskip("torch", reason="needs the extra `torch`")
    from benchmarks import torch_peer

    return torch_peer


def workload(rng, **fields) -> Workload:
    """A small model with random values everywhere, biases and input map too: from shapes alone, without compilation."""
    config, grid = config_of("base", "float32", small=True, **fields), EnergyGrid(points=40)
    batch = batch_of(rng, 8, grid)
    statistics = Statistics.of(batch, {"Cu K": 8})
    objective = make_objective(config.objective, statistics, grid)
    blueprint = Blueprint.of(config.model, config.execution, grid, objective.tasks, statistics, "")

    def fill(leaf):
        return jnp.asarray(rng.normal(scale=0.3, size=leaf.shape), leaf.dtype)

    graph, *shapes = blueprint.abstract()
    params, constants = jax.tree.map(fill, shapes)
    flat, schedule = Flat(params, len(objective.names) + BESIDE), make_schedule(config.train, 100)
    optimiser = make_optimiser(config.train, schedule, flat)
    made = Assembly(config, blueprint, objective, Layout(), graph, params, constants, flat, optimiser, schedule)
    return Workload(made, jax.tree.map(jnp.asarray, batch))


def assert_same(one, other, tolerance: float) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=tolerance), one, other)


@pytest.mark.parametrize(
    "fields",
    [
        {"kernel": 3, "band_mode": "per_sample", "attention": "gatv1"},
        {"kernel": 3, "band_mode": "batch", "attention": "none"},
        {"kernel": 11, "band_mode": "per_sample", "attention": "gatv2"},
        {"kernel": 11, "band_mode": "fixed", "attention": "gatv1"},
    ],
    ids=lambda fields: "-".join(map(str, fields.values())),
)
def test_outputs_are_those_of_pytorch(rng, peer, fields):
    work = workload(rng, **fields)
    ours = work.apply(work.params, work.batch.spectrum, work.batch.atomic_number)
    for variant in ("eager", "merged"):
        theirs = peer.inference(peer.build(work, variant), work)()
        assert set(ours) == set(theirs)
        np.testing.assert_array_equal(ours["bands"], theirs["bands"])
        for name in ours:
            np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-5, atol=1e-5, err_msg=f"{variant} {name}")


def test_gradients_are_those_of_pytorch(rng, peer):
    work = workload(rng, attention="gatv2", dropout=0.0)
    tasks = work.tasks[3:5]  # a class and a value: the more, the longer to compile
    batch, weight = work.batch, jnp.asarray(rng.uniform(size=8), jnp.float32)

    def loss(params):
        outputs = work.apply(params, batch.spectrum, batch.atomic_number)
        return task_losses(outputs, ((batch, weight),), tasks, 0.05).mean()

    value, gradient = jax.jit(jax.value_and_grad(loss))(work.params)
    model = peer.build(work, "merged")
    spectrum, numbers, labels, mask, weight = peer.tensors((*batch, weight))
    total = peer.joint_loss(model(spectrum, numbers), ((labels, mask, weight),), tasks, 0.05)
    total.backward()
    np.testing.assert_allclose(total.item(), value, rtol=5e-5)
    theirs = from_torch({name: p.grad for name, p in model.named_parameters()}, work.params)
    assert_same(theirs, gradient, 1e-5 * max(float(jnp.abs(x).max()) for x in jax.tree.leaves(gradient)))


def test_training_step_learns(rng, peer):
    work = workload(rng, kernel=11, band_mode="fixed")
    model = peer.build(work, "eager")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    peer.train_step(model, work)()
    after = dict(model.named_parameters())
    assert all(after[name].isfinite().all() and not after[name].equal(p) for name, p in before.items())


@pytest.mark.parametrize("fields", [{"kernel": 3, "attention": "gatv2"}, {"kernel": 11}])
@pytest.mark.parametrize("variant", ["eager", "merged"])
def test_weights_return_from_pytorch(rng, peer, fields, variant):
    work = workload(rng, **fields)
    model = peer.build(work, variant)
    assert any("conv.kernels.5.weight" in name for name in model.state_dict()) == (
        variant == "eager" and fields["kernel"] == 11
    )
    assert_same(from_torch(model.state_dict(), work.params), work.params, 1e-6)


def test_weights_return_without_pytorch(rng):
    params = workload(rng, attention="gatv2").params
    assert_same(from_torch(to_torch(params), jax.eval_shape(lambda: params)), params, 0)


def test_inception_kernels_become_their_mean(rng):
    params = workload(rng, kernel=5).params
    state = to_torch(params)
    state.pop("band_blocks.0.conv.weight"), state.pop("band_blocks.0.conv.bias")
    for j in range(3):
        kernel = np.zeros((8, 8, 2 * j + 1, 2 * j + 1))
        kernel[1, 2, 0, j] = 3.0
        state[f"band_blocks.0.conv.kernels.{j}.weight"] = kernel
        state[f"band_blocks.0.conv.kernels.{j}.bias"] = np.full(8, j)
    block = from_torch(state, params)["band_blocks"][0]
    expected = np.zeros((5, 5, 8, 8))
    expected[:3, 2, 2, 1] = 1.0
    np.testing.assert_array_equal(block["weights"][...], expected)
    np.testing.assert_array_equal(block["bias"][...], np.ones(8))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s.pop("embed.weight"), r"embed.weight is missing, expected with shape \(8, 5\)"),
        (lambda s: s.update(position=np.zeros((39, 8))), r"position has shape \(39, 8\), expected \(40, 8\)"),
        (lambda s: s.update(decoder=np.zeros(3)), "unexpected decoder"),
        (
            lambda s: s.update({"band_blocks.0.conv.kernels.0.bias": np.zeros(8)}),
            r"band_blocks.0.conv.kernels.1.bias is missing, expected with shape \(8,\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(rng, change, message):
    params = workload(rng).params
    state = to_torch(params)
    change(state)
    with pytest.raises(RunError, match=message) as raised:
        from_torch(state, params)
    assert "\n" not in str(raised.value)
