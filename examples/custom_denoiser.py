r"""A denoiser of one's own under our diffusion: a gated residual network, on dense
rows, in place of DiffRec's MLP. Nothing else changes, because the diffusion calls
`denoiser(x_t, t)` and knows no more about it.

    python examples/custom_denoiser.py --smoke
"""

import argparse

import torch

from pyg_diffrec.data import interaction_rows
from pyg_diffrec.datasets import SyntheticInteractions
from pyg_diffrec.diffusion import GaussianDiffusion
from pyg_diffrec.evaluation import evaluate
from pyg_diffrec.loader import RowLoader
from pyg_diffrec.nn import Denoiser, SinusoidalTimeEmbedding


class GatedDenoiser(Denoiser):
    r"""Estimates clean rows as a gated mix of the noised rows and a bottleneck:
    gate(t) * x_t + decode(relu(encode(dropout(x_t)) + code(t)))."""

    def __init__(self, num_items, hidden_channels, time_embedding_dim=16):
        super().__init__()
        self.embed = SinusoidalTimeEmbedding(time_embedding_dim)
        self.code = torch.nn.Linear(time_embedding_dim, hidden_channels)
        self.gate = torch.nn.Linear(time_embedding_dim, 1)
        self.encode = torch.nn.Linear(num_items, hidden_channels)
        self.decode = torch.nn.Linear(hidden_channels, num_items)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, x_t, t):
        code = self.embed(t, x_t.dtype)
        h = (self.encode(self.dropout(x_t)) + self.code(code)).relu()
        return self.gate(code).sigmoid() * x_t + self.decode(h)


class Model(torch.nn.Module):
    def __init__(self, num_items):
        super().__init__()
        self.denoiser = GatedDenoiser(num_items, hidden_channels=64)
        self.diffusion = GaussianDiffusion('cosine', 10, timestep_sampler='importance')

    def score(self, users, history):
        return self.diffusion.p_sample_loop(self.denoiser, history.to_dense())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--smoke', action='store_true')
    args = parser.parse_args()

    torch.manual_seed(0)
    data = SyntheticInteractions(500, 200)[0]
    model = Model(data['item'].num_nodes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    loader = RowLoader(interaction_rows(data), batch_size=100, shuffle=True)
    for epoch in range(1, (10 if args.smoke else 60) + 1):
        model.train()
        for batch in loader:
            optimizer.zero_grad()
            x_start = batch.rows.to_dense()
            model.diffusion.training_losses(
                model.denoiser, x_start
            ).loss.mean().backward()
            optimizer.step()
        if epoch % 5 == 0:
            recall = evaluate(model, data, 'val', ['Recall@20'])['Recall@20']
            print(f'epoch {epoch}: validation Recall@20 {recall:.4f}')


if __name__ == '__main__':
    main()
