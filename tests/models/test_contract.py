import pytest
from toy import toy_data

from pyg_diffrec import models
from pyg_diffrec.models import MODELS
from pyg_diffrec.testing import check_model

MULTI_MODAL = {'modalities': {'planted': 3}, 'embedding_dim': 8, 'batch_size': 64}
SMALL = {
    'BM3': MULTI_MODAL,
    'DiffMM': {**MULTI_MODAL, 'hidden_channels': 8},
    'DiffNet': {'embedding_dim': 8, 'batch_size': 64},
    'DiffRec': {'hidden_channels': [8, 4], 'batch_size': 16},
    'EASE': {'l2': 5.0},
    'GiffCF': {'embedding_dim': 6, 'batch_size': 16},
    'IALS': {'embedding_dim': 8},
    'LATTICE': MULTI_MODAL,
    'LDiffRec': {'encoder_channels': [8]},
    'LightGCN': {'embedding_dim': 8, 'batch_size': 64},
    'MFBPR': {'embedding_dim': 8, 'batch_size': 64},
    'MHCN': {'embedding_dim': 8, 'batch_size': 64},
    'RecDiff': {'embedding_dim': 8, 'batch_size': 64},
    'VBPR': MULTI_MODAL,
}


@pytest.mark.parametrize('name', MODELS)
def test_contract(name):
    data = toy_data(num_social=4)
    data['item'].embedding = data['item'].planted  # By which L-DiffRec clusters.
    data['item'].x_planted = data['item'].planted
    check_model(getattr(models, name), data, **SMALL.get(name, {}))


@pytest.mark.parametrize(
    'options', [{'num_noising_steps': 3}, {'sampling_noise': True}]
)
def test_contract_of_diffrec_with_noise_at_inference(options):
    check_model(models.DiffRec, toy_data(), hidden_channels=8, **options)


@pytest.mark.parametrize('name', MODELS)
def test_repr_and_bad_sizes(name):
    cls = getattr(models, name)
    assert repr(cls(7, **SMALL.get(name, {}))).startswith(f'{name}(7')
    with pytest.raises(ValueError, match="'num_items' needs to be positive"):
        cls(0)
