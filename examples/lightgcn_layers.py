r"""Our layers in a bare PyG loop: LightGCN as a stack of `BipartiteLGConv` on the
edge index of a `HeteroData`, beside the encoder that computes the same faster.

    python examples/lightgcn_layers.py --smoke
"""

import argparse

import torch

from pyg_diffrec.data import interaction_rows
from pyg_diffrec.datasets import SyntheticInteractions
from pyg_diffrec.evaluation import evaluate
from pyg_diffrec.loader import EdgeLoader
from pyg_diffrec.nn import BipartiteLGConv, bpr_loss


class LightGCN(torch.nn.Module):
    def __init__(self, num_users, num_items, edge_index, channels=32, num_layers=2):
        super().__init__()
        self.user = torch.nn.Parameter(0.1 * torch.randn(num_users, channels))
        self.item = torch.nn.Parameter(0.1 * torch.randn(num_items, channels))
        self.convs = torch.nn.ModuleList(BipartiteLGConv() for _ in range(num_layers))
        self.edge_index = edge_index

    def forward(self):
        layers = [(self.user, self.item)]
        for conv in self.convs:
            user, item = layers[-1]
            to_user = conv((item, user), self.edge_index.flip(0))
            layers.append((to_user, conv((user, item), self.edge_index)))
        users, items = zip(*layers)
        return torch.stack(users).mean(0), torch.stack(items).mean(0)

    def score(self, users, history):
        user, item = self()
        return user[users] @ item.t()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--smoke', action='store_true')
    args = parser.parse_args()

    torch.manual_seed(0)
    data = SyntheticInteractions(500, 200)[0]
    store = data['user', 'interacts', 'item']
    edge_index = store.edge_index[:, store.train_mask]  # Messages: training only.
    model = LightGCN(data['user'].num_nodes, data['item'].num_nodes, edge_index)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    loader = EdgeLoader(interaction_rows(data), batch_size=1024, shuffle=True)
    for epoch in range(1, (2 if args.smoke else 20) + 1):
        for batch in loader:
            optimizer.zero_grad()
            user, item = model()
            user = user[batch.user]
            positive = (user * item[batch.positive]).sum(1)
            negative = (user * item[batch.negative]).sum(1)
            loss = bpr_loss(positive, negative)
            loss.backward()
            optimizer.step()
        recall = evaluate(model, data, 'val', ['Recall@20'])['Recall@20']
        print(f'epoch {epoch}: validation Recall@20 {recall:.4f}')


if __name__ == '__main__':
    main()
