import pytest
import torch

from pyg_diffrec.nn.item_features import ItemFeatures

SIZES = {'image': 2, 'text': 1}


def test_features_are_kept_in_order_and_type():
    module = ItemFeatures(3, SIZES)
    image, text = torch.rand(3, 2), torch.tensor([[1], [2], [3]])
    module.fit({'text': text, 'image': image}, dtype=torch.double)
    (first, second), present = module()
    assert torch.equal(first, image.double())
    assert torch.equal(second, text.double())
    assert present is None
    assert module.state_dict() == {}
    assert str(module) == "ItemFeatures(3, {'image': 2, 'text': 1})"


def test_absent_features_are_zero_whatever_they_hold():
    module = ItemFeatures(3, SIZES)
    image = torch.tensor([[1.0, 2.0], [float('nan'), 3.0], [4.0, 5.0]])
    mask = torch.tensor([True, False, True])
    module.fit({'image': image, 'text': torch.ones(3, 1)}, {'image': mask})
    (first, second), present = module()
    assert first.tolist() == [[1, 2], [0, 0], [4, 5]]
    assert second.tolist() == [[1], [1], [1]]
    assert present.tolist() == [[True, True], [False, True], [True, True]]
    module.fit({'image': torch.ones(3, 2), 'text': torch.ones(3, 1)})
    assert module()[1] is None


def test_bad_features_are_refused():
    module = ItemFeatures(3, SIZES)
    with pytest.raises(ValueError, match=r"\['image', 'text'\] are not known yet"):
        module()
    image, text = torch.ones(3, 2), torch.ones(3, 1)
    with pytest.raises(ValueError, match=r"missing \['text'\], unknown \['audio'\]"):
        module.fit({'image': image, 'audio': text})
    with pytest.raises(ValueError, match=r"unknown \['audio'\]"):
        module.fit({'image': image, 'text': text}, {'audio': text})
    with pytest.raises(
        ValueError, match=r"'image' need shape \[3, 2\].*one row per item .*\[2, 2\]"
    ):
        module.fit({'image': image[:2], 'text': text})
    text[1] = float('inf')
    with pytest.raises(ValueError, match="'text' hold NaN or inf in 1 rows.*item 1"):
        module.fit({'image': image, 'text': text})
    with pytest.raises(ValueError, match="'present' of modality 'text'.*torch.float32"):
        module.fit({'image': image, 'text': text}, {'text': torch.ones(3)})
    with pytest.raises(ValueError, match='are not known yet'):
        module()
