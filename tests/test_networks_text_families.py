"""Networks for text of every kind against transformers itself: each layer, and every cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

from networks_for_text import CONFIGS, N_WORDS, small_model, small_tokenizer

from sktransfer.exceptions import LayerError
from sktransfer.networks import load_text_backbone
from sktransfer.networks._blocks import BlockCuts

# Those whose blocks cannot be told apart from outside, and why.
WHOLE = {
    "albert": "no list of blocks",
    "xlnet": "is not its hidden state",
    "xlm": "is not its hidden state",
    "flaubert": "is not its hidden state",
    "squeezebert": "are not called as modules",
}
# Cuts that cannot be trained from: blocks hand on more than their output.
NO_TAIL = {
    "t5": ("block.1", "block.2"),
    "mt5": ("block.1", "block.2"),
    "xmod": ("block.1", "block.2"),
}
# Those whose sums hang on where arrays lie in memory, on CPUs that have no AVX-512.
TO_THE_LAST_BIT = ("longformer",)
KINDS = list(CONFIGS)
CUT = [
    pytest.param(kind, marks=[pytest.mark.slow] if kind in KINDS[KINDS.index("t5") + 1 :] else [])
    for kind in KINDS
    if kind not in WHOLE
]


@pytest.fixture(scope="module")
def made():
    """Models and what is made of them, each once."""
    kept = {}

    def of(kind):
        if kind not in kept:
            model = small_model(kind)
            cuts = BlockCuts(load_text_backbone(model, tokenizer=small_tokenizer()))
            encoder = model.get_encoder() if model.config.is_encoder_decoder else model
            kept[kind] = encoder, cuts
        return kept[kind]

    return of


def tokens(n, length, seed=1):
    """Texts of made-up tokens as networks take them."""
    made = np.zeros((n, length, 3), np.int32)
    made[..., 0] = np.random.default_rng(seed).integers(5, N_WORDS, (n, length))
    made[..., 2] = 1
    return torch.from_numpy(made)


def same(kind, one, other):
    """Whether the bits are, or where that cannot be had, all but the last ones."""
    if kind in TO_THE_LAST_BIT:
        return torch.allclose(one, other, rtol=0, atol=1e-6)
    return torch.equal(one, other)


def hidden_states(model, some):
    with torch.no_grad():
        return model(input_ids=some[..., 0].long(), output_hidden_states=True).hidden_states


@pytest.mark.parametrize("kind", CUT)
def test_every_layer_is_the_hidden_state_of_transformers(kind, made):
    model, cuts = made(kind)
    layers = cuts.listed()
    assert [one.name for one in layers] == ["embeddings", "block.1", "block.2", "block.3"]
    for some in (tokens(2, 9), tokens(3, 5)):
        expected = hidden_states(model, some)
        with torch.no_grad():
            found = cuts.prefix(layers, None)(some)
            alone = [cuts.prefix([layer], None)(some)[0] for layer in layers]
        assert len(expected) == len(layers)
        for one, other, third in zip(found, expected, alone, strict=True):
            assert same(kind, one, other) and same(kind, third, other)


@pytest.mark.parametrize("kind", WHOLE)
def test_networks_that_cannot_be_cut_say_why(kind, made):
    model, cuts = made(kind)
    assert [one.name for one in cuts.listed()] == ["output"]
    with pytest.raises(LayerError, match=rf"It cannot be cut: .*{WHOLE[kind]}"):
        cuts.resolve("block.1")
    some = tokens(2, 9)
    with torch.no_grad():
        (found,) = cuts.prefix(cuts.listed(), None)(some)
        expected = model(input_ids=some[..., 0].long())[0]
        whole = cuts.tail(None)(some, torch.ones(2, 9))
    assert torch.equal(found, expected)
    torch.testing.assert_close(whole, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", CUT)
def test_a_prefix_and_its_tail_are_the_whole_bit_for_bit(kind, made):
    model, cuts = made(kind)
    some = tokens(2, 9)
    expected = hidden_states(model, some)
    for start in [None, *cuts.listed()]:
        if start is not None and start.name in NO_TAIL.get(kind, ()):
            with pytest.raises(LayerError, match="Train all of it, or its head"):
                cuts.tail(start)
            continue
        if start is cuts.listed()[-1]:
            assert isinstance(cuts.tail(start), torch.nn.Identity)
            continue
        with torch.no_grad():
            handed = some if start is None else cuts.prefix([start], None)(some)[0]
            found = cuts.tail(start)(handed, torch.ones(2, 9))
        assert same(kind, found, expected[-1]), start


@pytest.mark.parametrize("kind", ["bert", "deberta", "modernbert", "gpt2", "longformer"])
def test_a_network_that_ends_earlier(kind, made):
    model, cuts = made(kind)
    some = tokens(2, 9)
    expected = hidden_states(model, some)[2]
    shorter = cuts.up_to("block.2")
    for start in [None, *shorter.listed()[:2]]:
        with torch.no_grad():
            handed = some if start is None else cuts.prefix([start], None)(some)[0]
            found = shorter.tail(start)(handed, torch.ones(2, 9))
        assert same(kind, found, expected), start


@pytest.mark.parametrize("kind", CUT)
def test_a_batch_of_several_lengths_gives_what_each_text_alone_gives(kind, made):
    """To the last bits: sums over a masked row have other orders."""
    _, cuts = made(kind)
    lengths = [5, 9, 2]
    texts = [tokens(1, n, seed=n) for n in lengths]
    mask = torch.arange(9)[None] < torch.tensor(lengths)[:, None]
    last = cuts.listed()[-1]
    with torch.no_grad():
        expected = [cuts.prefix([last], None)(one)[0][0] for one in texts]
    for start in [None, *cuts.listed()[:-1]]:
        if start is not None and start.name in NO_TAIL.get(kind, ()):
            continue
        with torch.no_grad():
            parts = [one if start is None else cuts.prefix([start], None)(one)[0] for one in texts]
            filled = parts[0].new_zeros((3, 9, parts[0].shape[2]))
            for row, part in zip(filled, parts, strict=True):
                row[: part.shape[1]] = part[0]
            found = cuts.tail(start)(filled, mask)
        for row, one in zip(found, expected, strict=True):
            torch.testing.assert_close(row[: len(one)], one, rtol=0, atol=2e-6)


@pytest.mark.parametrize("kind", CUT)
def test_stages_have_all_parameters_that_are_used_once(kind, made):
    model, cuts = made(kind)
    stages = [cuts.parameters_of(stage) for stage in cuts.stages()]
    names = [name for stage in stages for name in stage]
    assert len(names) == len(set(names))
    parameters = {n: one for n, one in model.named_parameters() if one.requires_grad}
    states = model(input_ids=tokens(2, 9)[..., 0].long(), output_hidden_states=True).hidden_states

    def reached(output):
        found = torch.autograd.grad(
            output.sum(), list(parameters.values()), allow_unused=True, retain_graph=True
        )
        return {name for name, one in zip(parameters, found, strict=True) if one is not None}

    for number, state in enumerate(states):
        assert reached(state) <= {name for stage in stages[: number + 1] for name in stage}
    fixed = {name for name, one in model.named_parameters() if not one.requires_grad}
    used = set(names) - fixed
    if kind == "longformer":  # its attention to everything takes tokens that are marked for it
        used = {name for name in used if "_global" not in name}
    assert used == reached(states[-1])


@pytest.mark.parametrize("kind", ["bert", "deberta-v2", "gpt2", "modernbert", "mpnet", "convbert"])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_gradients_of_a_tail_are_those_of_the_whole(kind, number, made):
    model, cuts = made(kind)
    some, start = tokens(2, 9), cuts.listed()[number]
    weights = torch.randn((2, 9, 16), generator=torch.Generator().manual_seed(0))
    tail = cuts.tail(start).requires_grad_(True)
    with torch.no_grad():
        (handed,) = cuts.prefix([start], None)(some)
    own = {n for stage in cuts.stages()[number + 1 :] for n in cuts.parameters_of(stage)}
    (tail(handed, torch.ones(2, 9)) * weights).sum().backward()
    model.zero_grad()
    for name, one in model.named_parameters():
        one.requires_grad_(name in own)
    (model(input_ids=some[..., 0].long())[0] * weights).sum().backward()
    found = {name: one.grad for name, one in tail.named_parameters() if name in own}
    expected = {name: one.grad for name, one in model.named_parameters() if name in own}
    model.zero_grad()
    model.requires_grad_(True)
    assert found.keys() == expected.keys() == own and own
    for name, one in expected.items():
        if one is None:
            assert found[name] is None
        else:
            torch.testing.assert_close(found[name], one, rtol=1e-5, atol=1e-6, msg=name)


def test_tails_are_copies_and_nothing_changes_the_network(made):
    model, cuts = made("bert")
    before = {name: one.clone() for name, one in model.state_dict().items()}
    tail = cuts.tail(cuts.listed()[1])
    with torch.no_grad():
        for one in tail.parameters():
            one.zero_()
    cuts.prefix(cuts.listed(), None).folded().in_precision(torch.bfloat16)
    for name, one in cuts.backbone.module.state_dict().items():
        assert torch.equal(one, before[name])
    assert not any("word_embeddings" in name for name, _ in tail.named_parameters())


def test_a_sparse_attention_that_hangs_on_what_came_before_is_not_taken(made):
    """BigBird's changes for good with the first short text, and draws blocks at random."""
    _, cuts = made("big_bird")
    prefix = cuts.prefix(cuts.listed()[-1:], None)
    long = tokens(1, 40)
    with torch.no_grad():
        first = prefix(long)[0]
        prefix(tokens(1, 5))
        assert torch.equal(prefix(long)[0], first)
    assert cuts.backbone.module.encoder.layer[0].attention_type == "original_full"


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("block.4", 'layer=\'block.4\' is not a layer of bertmodel. Did you mean'),
        ("blok.2", "Did you mean 'block.2'"),
        (-5, "numbers go from -1 .block.3. to -4"),
        (0, "numbers go from -1"),
    ],
)
def test_layers_that_do_not_exist(layer, message, made):
    with pytest.raises(LayerError, match=message):
        made("bert")[1].resolve(layer)


def test_layers_by_name_and_number(made):
    _, cuts = made("bert")
    embeddings, *_, last = layers = cuts.listed()
    assert cuts.resolve(None) is cuts.resolve(-1) is cuts.resolve("output") is last
    assert cuts.resolve(-4) is cuts.resolve("embeddings") is embeddings
    assert cuts.several(["block.1", -1]) == (layers[1], last)
    with pytest.raises(LayerError, match="must be one or more different layers"):
        cuts.several(["block.3", -1])
