import torch
from toy import toy_data

from pyg_diffrec.evaluation import evaluate
from pyg_diffrec.models import MFBPR, DiffRec
from pyg_diffrec.training import fit


def relative_loss(cls, seed, **kwargs):
    """Share of test recall lost when 30 % of training interactions are random."""
    recall = []
    for noise_share in (0.0, 0.3):
        data = toy_data(
            400, 80, interactions_per_user=20, noise_share=noise_share, seed=seed
        )
        torch.manual_seed(0)
        model = cls.from_data(data, **kwargs)
        fit(
            model,
            epochs=40,
            metric='Recall@10',
            validate=lambda model, data=data: evaluate(
                model, data, 'val', ['Recall@10']
            ),
            progress=False,
        )
        recall.append(evaluate(model, data, 'test', ['Recall@10'])['Recall@10'])
    return 1 - recall[1] / recall[0]


def test_a_denoising_model_loses_less_to_noise_than_factorisation():
    diffrec = {'hidden_channels': 32, 'lr': 3e-3, 'batch_size': 50}
    mf_bpr = {'embedding_dim': 16, 'lr': 1e-2, 'batch_size': 512}
    seeds = range(4)
    kept = [relative_loss(DiffRec, seed, **diffrec) for seed in seeds]
    lost = [relative_loss(MFBPR, seed, **mf_bpr) for seed in seeds]
    assert all(0 < a < b for a, b in zip(kept, lost))
    assert sum(kept) < 0.85 * sum(lost)
