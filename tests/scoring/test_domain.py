"""How strange a spectrum is to a model, and what is nearest to it, against plain sums."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from data_pipelines.structures.cluster import Cluster, Clusters
from spt_jax.scoring.domain import Domain
from spt_jax.scoring.open_end import OpenEnd


@pytest.fixture
def domain(rng):
    """Of 40 random spectra of two elements, with components enough to hold them whole."""
    spectra = rng.normal(size=(40, 12)).astype(np.float32)
    mean, components = spectra.mean(axis=0), np.linalg.svd(spectra - spectra.mean(axis=0))[2]
    widths = (2 * 12 + 3, 5, 1)
    layers = [(rng.normal(size=pair), rng.normal(size=pair[1])) for pair in pairwise(widths)]
    return Domain(
        mean=mean,
        std=spectra.std(axis=0),
        elements=np.array([27, 29]),
        nets=(tuple(layers), tuple(layers[:1] + layers[1:])),
        thresholds=(0.25, -0.5),
        components=components,
        coefficients=(spectra - mean) @ components.T,
        atomic_number=np.repeat([27, 29], 20),
        materials=tuple(f"m{i // 2}" for i in range(40)),
    )


def spectra_of(domain):
    return domain.mean + domain.coefficients @ domain.components


def test_strangeness_is_the_mean_output_of_the_networks(domain, rng):
    mu = rng.normal(size=(3, 15))
    for told, measured in ((1, False), (0, True)):
        for row, number in zip(mu, (27, 29, 8), strict=True):
            known = row[:12]
            slope = np.gradient(known) / domain.std.mean()
            whose = [told * (number == 27), told * (number == 29)]
            given = np.concatenate([(known - domain.mean) / domain.std, slope, whose, [1 - sum(whose)]])
            (first, bias), (last, end) = domain.nets[0]
            expected = np.maximum(given @ first + bias, 0) @ last + end - domain.thresholds[measured]
            assert domain.strangeness(row[None], np.array([number]), measured) == pytest.approx(expected, abs=1e-4)


def test_nearest_are_of_the_element_and_of_different_materials(domain, rng):
    mu = rng.normal(size=15)
    found = domain.nearest(mu, 29, count=4)
    distance = np.sqrt(np.mean((spectra_of(domain)[20:] - mu[:12]) ** 2, axis=1)).reshape(10, 2).min(axis=1)
    order = np.argsort(distance)[:4]
    assert [each.material for each in found] == [f"m{10 + i}" for i in order]
    assert [each.distance for each in found] == pytest.approx(distance[order], abs=1e-5)
    assert domain.nearest(spectra_of(domain)[33], 29)[0].distance == pytest.approx(0, abs=1e-3)
    assert domain.nearest(mu, 8) == ()
    for each in found:
        off = domain.spectrum(each.row) - mu[:12]
        assert each.material == domain.materials[each.row]
        assert np.sqrt(np.mean(off**2)) == pytest.approx(each.distance, abs=1e-5)


def test_thresholds_are_of_held_out_spectra(domain, rng):
    mu, number = rng.normal(size=(400, 12)), rng.choice([27, 29], size=400)
    found = domain.with_false_alarms(mu, number, share=0.1)
    for measured in (False, True):
        assert np.mean(found.strangeness(mu, number, measured) > 0) == pytest.approx(0.1, abs=0.005)


def test_it_is_the_same_from_a_file_but_for_rounding(domain, rng):
    document, arrays = domain.parts()
    found = Domain.of_parts(document, arrays)
    mu, number = rng.normal(size=(5, 12)), np.full(5, 27)
    assert found.strangeness(mu, number) == pytest.approx(domain.strangeness(mu, number), abs=0.05)
    assert (
        found.materials == domain.materials
        and found.nearest(mu[0], 27)[0].material == domain.nearest(mu[0], 27)[0].material
    )
    with pytest.raises(KeyError):
        Domain.of_parts(document, {name: array for name, array in arrays.items() if name != "coefficients"})


def test_what_surrounds_the_sites_and_open_ends_are_optional(domain, rng):
    """Files from before there were such hold neither."""
    document, arrays = domain.parts()
    found = Domain.of_parts(document, arrays)
    assert found.clusters is None and found.open_end is None
    around = [Cluster(np.array([8, 29]), rng.uniform(-3, 3, (2, 3))) if i % 2 else None for i in range(40)]
    open_end = OpenEnd(rng.normal(size=9), rng.normal(size=(9, 2)), 1e-3, domain.elements, np.array([2.5, 3.0]))
    more = replace(domain, clusters=Clusters.of(around), open_end=open_end)
    document, arrays = more.parts()
    found = Domain.of_parts(document, arrays)
    assert found.clusters.row(0) is None and found.clusters.row(7).number.tolist() == [8, 29]
    np.testing.assert_allclose(found.clusters.row(7).place, around[7].place, atol=0.0201)
    end = found.open_end
    assert (end.width(27), end.width(29)) == (2.5, 3.0) and np.isnan(end.width(8)) and end.residual == 1e-3
    np.testing.assert_allclose(end.components, open_end.components, rtol=1e-6)
    with pytest.raises(ValueError, match="clusters"):
        Domain.of_parts(document, {**arrays, "clusters": arrays["clusters"][:9]})
