r"""The latent diffusion on its own: user embeddings from elsewhere go in, denoised ones
come out, and linked users are told from wrongly linked ones before and after.

    python examples/social_denoising.py            (synthetic, seconds)
    python examples/social_denoising.py --smoke    (the same, fewer steps)
"""

import argparse

import torch
import torch.nn.functional as F

from pyg_diffrec.data import USER_USER
from pyg_diffrec.datasets import SyntheticInteractions
from pyg_diffrec.diffusion import GaussianDiffusion
from pyg_diffrec.nn import MLPDenoiser


def separation(x, edge_index, fake):
    """The chance that a true tie is more similar than a fake one."""
    x = F.normalize(x)
    similarity = (x[edge_index[0]] * x[edge_index[1]]).sum(1)
    true, false = similarity[~fake], similarity[fake]
    return (true.view(-1, 1) > false).double().mean().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--smoke', action='store_true')
    args = parser.parse_args()
    torch.manual_seed(0)

    data = SyntheticInteractions(600, 200, num_social=10, fake_social_share=0.3)[0]
    edge_index, fake = data[USER_USER].edge_index, data[USER_USER].fake_mask
    # Somebody else's embeddings: here the planted tastes in 32 dimensions, under noise.
    taste = F.normalize(data['user'].planted)
    x = taste @ torch.randn(taste.size(1), 32)
    x = x + torch.randn_like(x)

    diffusion = GaussianDiffusion('linear-var', 20, noise_scale=10.0, noise_max=0.08)
    denoiser = MLPDenoiser(x.size(1), 64, time_embedding_dim=16, dropout=0.0)
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=3e-3)
    for _ in range(100 if args.smoke else 600):
        optimizer.zero_grad()
        diffusion.training_losses(denoiser, x).loss.mean().backward()
        optimizer.step()

    denoiser.eval()
    with torch.no_grad():
        denoised = diffusion.p_sample_loop(denoiser, x)
    print(f'{int(fake.sum())} of {fake.numel()} ties are between unlike users')
    for name, embedding in (('before', x), ('after', denoised)):
        chance = separation(embedding, edge_index, fake)
        print(f'{name:6s} a true tie is more similar than a fake one: {chance:.3f}')


if __name__ == '__main__':
    main()
