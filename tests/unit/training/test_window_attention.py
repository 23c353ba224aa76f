from types import SimpleNamespace

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import BertConfig, BertModel, MPNetConfig, MPNetModel

from training.window_attention import BY_WINDOW, attend_by_window, read_by_window

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}


def masked(lengths, longest):
    return (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()


def test_each_window_attends_to_itself_without_its_padding():
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 3, 2, 7, 4)
    mask = masked([7, 3, 1], 7)
    made, weights = attend_by_window(None, query, key, value, mask, scaling=0.5, dropout=0.0)
    expected = scaled_dot_product_attention(
        query, key, value, attn_mask=mask[:, None, None].bool(), scale=0.5
    )
    assert weights is None and made.shape == (3, 7, 2, 4)
    torch.testing.assert_close(made[mask.bool()], expected.transpose(1, 2)[mask.bool()])
    assert made.isfinite().all()
    whole, _ = attend_by_window(None, query, key, value, None, scaling=0.5)
    torch.testing.assert_close(
        whole, scaled_dot_product_attention(query, key, value, scale=0.5).transpose(1, 2)
    )


@torch.inference_mode()
def test_a_model_says_the_same_of_every_token():
    torch.manual_seed(0)
    model = BertModel(BertConfig(vocab_size=50, intermediate_size=32, **SMALL)).eval()
    ids, mask = torch.randint(0, 50, (3, 9)), masked([9, 4, 1], 9)
    before = model(input_ids=ids, attention_mask=mask).last_hidden_state[mask.bool()]
    read_by_window(model)
    assert model.config._attn_implementation == BY_WINDOW
    after = model(input_ids=ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(after[mask.bool()], before, atol=1e-5, rtol=1e-5)
    assert after.isfinite().all()


def test_a_model_whose_tokens_do_not_all_see_all_is_left_as_it_is():
    mpnet = MPNetModel(MPNetConfig(vocab_size=50, intermediate_size=32, **SMALL))
    decoder = BertModel(BertConfig(vocab_size=50, intermediate_size=32, is_decoder=True, **SMALL))
    for model in (mpnet, decoder):
        before = model.config._attn_implementation
        read_by_window(model)
        assert model.config._attn_implementation == before
    unknown = SimpleNamespace(config=SimpleNamespace(model_type="another", is_decoder=False))
    read_by_window(unknown)
