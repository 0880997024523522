"""Where a model looked in one spectrum: the mean of its networks, by one program."""

import numpy as np
import pytest

from data_pipelines.errors import UserError
from data_pipelines.schema import descriptor
from spt_jax.explain.attribution import Explainer, Question
from spt_jax.explain.one import Looking
from spt_jax.inference.predict import Model
from spt_jax.inference.prediction import Value
from spt_jax.tasks import Task
from tests.explain.test_explain import CN, MEAN, make, some


def test_of_one_spectrum_the_networks_of_a_mean_are_asked_by_one_program(rng):
    two, (spectra, numbers) = [make(rng), make(rng)], some(rng, 1)
    model = Model(two[0].blueprint, lambda *given: {}, parts=tuple(two))
    looking = Looking(model)
    found = looking.at(spectra[0], "Cu K", "CN", Value(descriptor("CN").classes[3], ""))
    each = [Explainer(one).attribute(spectra, numbers, [Question(CN, 3)]) for one in two]
    np.testing.assert_allclose(found.values, np.mean([one.values[0] for one in each], axis=0), atol=1e-4)
    assert found.change == pytest.approx(np.mean([one.change[0] for one in each]), abs=1e-4)
    assert (found.of, found.unit, found.networks) == (f"CN {descriptor('CN').classes[3]}", "log-odds", 2)
    assert looking.at(spectra[0], "Cu K", "MBL", Value(2.0, "Å")).unit == "Å"
    assert looking._explainers[1]._attribute is looking._explainers[0]._attribute
    assert looking._explainers[0]._attribute._cache_size() == 1
    with pytest.raises(UserError, match="this model does not answer it"):
        looking.at(spectra[0], "Cu K", "OS", Value(2, ""))


def test_a_shell_is_asked_for_its_likeliest_element(rng):
    shell = Task("NN1", 10, 2, 0.0, 1.0, 1.0, 1.0, elements=(8, 29), shares=(0.9, 0.2))
    model, (spectra, numbers) = make(rng, tasks=(CN, shell)), some(rng, 1)
    found = Looking(model).at(spectra[0], "Cu K", "NN1", Value(("Cu",), "", elements={"Cu": 0.8, "O": 0.6}))
    outputs = model.outputs(np.stack([spectra[0], MEAN]), np.repeat(numbers, 2))["NN1"]
    assert found.of == "Cu" and found.change == pytest.approx(outputs[0, 1] - outputs[1, 1], abs=1e-4)
    with pytest.raises(UserError, match="no element is likely there"):
        Looking(model).at(spectra[0], "Cu K", "NN1", Value((), ""))
