import pytest

from pyg_diffrec import models
from pyg_diffrec.models import MODELS, VARIANTS, preset, presets
from pyg_diffrec.models.baselines.multi_modal import MultiModalRecommender


@pytest.mark.parametrize('name', MODELS)
def test_every_preset_builds_its_model(name):
    for values in presets(name).values():
        if issubclass(getattr(models, name), MultiModalRecommender):
            # Its modalities come from the data.
            values = {**values, 'modalities': {'image': 4, 'text': 3}}
        getattr(models, name)(20, **values)


@pytest.mark.parametrize('name', VARIANTS)
def test_every_preset_of_a_variant_builds_its_model(name):
    base, args = VARIANTS[name]
    assert presets(name)
    for values in presets(name).values():
        assert getattr(models, base)(20, **{**args, **values}).temporal is not None


def test_authors_settings_of_ml_1m():
    values = preset('DiffRec', 'ml-1m_clean')
    assert values['hidden_channels'] == [600, 200]
    assert (values['num_timesteps'], values['lr']) == (40, 1e-3)


def test_unknown_preset_lists_the_choices():
    with pytest.raises(ValueError, match="Did you mean 'ml-1m_clean'.*yelp_clean"):
        preset('DiffRec', 'ml-1m_clen')
    assert presets('MostPopular') == {}
