"""A pack gives what separate rows give; a token sees its ancestors and nothing else."""

import unittest
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.attention.flex_attention import create_mask

from apar_train.data.packing import Weights, pack_examples
from apar_train.data.shards import SERIAL, UNSTRUCTURED
from apar_train.errors import InputError
from apar_train.model.adapter import add_adapter, compute_less
from apar_train.model.attention import FLEX, SPANS, block_mask, check_windows, inputs_of
from apar_train.model.loss import token_losses
from apar_train.model.probe import check_attention

from .support import CHILD, EOS, FORK, META, VOCAB, Segment, conversation, example, tiny

CPU, F32 = torch.device("cpu"), torch.float32


def paths(each):
    """Of each segment: the ids from the first token to the segment's last, and how many are the segment's own."""
    whole = []
    for segment, parent in enumerate(each.parents.tolist()):
        begin, end = each.starts[segment : segment + 2].tolist()
        above = whole[parent][0] if parent >= 0 else []
        whole.append(([*above, *each.ids[begin:end].tolist()], each.learned[begin:end]))
    return whole


def separate_rows(model, examples, ban=None):
    """The plain way: every segment in a row of its own behind its path, causal attention, labels shifted by one."""
    total = torch.zeros(())
    for each in examples:
        for ids, learned in paths(each):
            logits = model(torch.tensor([ids])).logits[0]
            if each.kind == SERIAL:
                logits = logits.index_fill(1, torch.tensor([FORK]), float("-inf"))
            labels = torch.full((len(ids),), -100)
            own = torch.from_numpy(learned)
            labels[len(ids) - len(own) :][own] = torch.tensor(ids)[len(ids) - len(own) :][own]
            total = total + F.cross_entropy(logits[:-1], labels[1:], ignore_index=-100, reduction="sum")
    return total


class Exactness(unittest.TestCase):
    def test_loss_and_gradient_equal_those_of_separate_rows(self):
        rng = np.random.default_rng(1)
        trees = [conversation(rng, forks) for forks in (5, 3, 0, 1)]
        examples = [*(tree for tree, _ in trees), trees[1][1], nested()]
        for architecture, changes in (("llama", {}), ("qwen3", {}), ("llama", {"tie_word_embeddings": False})):
            with self.subTest(architecture=architecture, **changes):
                plain, packed = (tiny(architecture, kind, **changes) for kind in ("sdpa", SPANS))
                expected = separate_rows(plain, examples)
                pack = pack_examples(examples, META, Weights())
                rows = sum(len(ids) for each in examples for ids, _ in paths(each))
                self.assertLess(len(pack), 0.5 * rows)
                loss = token_losses(packed, pack, META, SPANS, F32).weighted_sum()
                count = sum(int(each.learned.sum()) for each in examples)
                self.assertAlmostEqual(float(loss) / count, float(expected) / count, places=5)
                (expected / count).backward()
                (loss / count).backward()
                for (name, a), b in zip(plain.named_parameters(), packed.parameters()):
                    self.assertTrue(torch.allclose(a.grad, b.grad, rtol=1e-4, atol=1e-6), name)

    def test_weights_are_of_forks_and_ends(self):
        tree, serial = conversation(np.random.default_rng(2), 2)
        pack = pack_examples([tree, serial], META, Weights(fork=3, eos=0.5))
        for target, weight in zip(pack.targets.tolist(), pack.weights.tolist()):
            self.assertEqual(weight, {FORK: 3, EOS: 0.5}.get(target, 1))
        self.assertEqual(pack.targets.tolist().count(FORK), 2)
        self.assertNotIn(CHILD, pack.targets.tolist())

    def test_a_banned_fork_has_no_share_and_no_gradient(self):
        model = tiny(attention=SPANS)
        with torch.no_grad():
            model.model.embed_tokens.weight[FORK] = 4 * model.model.embed_tokens.weight[97]
        segment = Segment([65, 100], [97, 98, EOS], -1)
        banned, free = (pack_examples([example([segment], kind)], META, Weights()) for kind in (SERIAL, UNSTRUCTURED))
        losses = [token_losses(model, pack, META, SPANS, F32).weighted_sum() for pack in (banned, free)]
        self.assertGreater(losses[1].item(), losses[0].item() + 0.01)
        self.assertAlmostEqual(losses[0].item(), separate_rows(tiny_like(model), [example([segment], SERIAL)]).item(), places=4)
        losses[0].backward()
        self.assertEqual(float(model.model.embed_tokens.weight.grad[FORK].abs().sum()), 0.0)


class LeanAdapters(unittest.TestCase):
    def adapted(self, tied, dropout=0.0):
        """A model with an adapter that is not zero, whose layers are peft's own."""
        model = tiny(attention=SPANS, tie_word_embeddings=tied)
        with mock.patch("apar_train.model.adapter.compute_less"):
            model = add_adapter(model, META, 4, 8, dropout, None)
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn_like(parameter))
        return model

    def test_loss_and_gradient_are_those_of_peft(self):
        trees = [tree for tree, _ in (conversation(np.random.default_rng(5), forks) for forks in (3, 1, 0))]
        pack = pack_examples(trees, META, Weights(fork=2))
        for tied in (True, False):
            for dropout in (0.0, 0.2):
                with self.subTest(tied=tied, dropout=dropout):
                    found = []
                    for lean in (False, True):
                        model = self.adapted(tied, dropout).train()
                        if lean:
                            compute_less(model)
                        torch.manual_seed(2)
                        loss = token_losses(model, pack, META, SPANS, F32).weighted_sum()
                        loss.backward()
                        gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
                        found.append((float(loss.detach()), gradients))
                    (loss, gradients), (lean_loss, lean_gradients) = found
                    self.assertAlmostEqual(loss, lean_loss, delta=1e-3)
                    self.assertGreater(len(gradients), 28)
                    for name, gradient in gradients.items():
                        self.assertTrue(torch.allclose(gradient, lean_gradients[name], rtol=1e-3, atol=1e-4), name)


class Masks(unittest.TestCase):
    def setUp(self):
        rng = np.random.default_rng(3)
        self.examples = [nested(), conversation(rng, 2)[0], conversation(rng, 0)[0]]
        self.pack = pack_examples(self.examples, META, Weights())
        self.expected = torch.from_numpy(ancestors_by_paths(self.examples))

    def test_a_mask_allows_the_path_and_nothing_else(self):
        self.assertTrue(torch.equal(self.pack.mask(), self.expected))
        mask = block_mask(self.pack)
        length = len(self.pack)
        self.assertTrue(torch.equal(create_mask(mask.mask_mod, None, None, length, length, "cpu")[0, 0], self.expected))

    def test_token_by_token_a_model_sees_what_the_mask_allows(self):
        for architecture in ("llama", "qwen3"):
            for kind in (SPANS, FLEX):
                with self.subTest(architecture=architecture, attention=kind):
                    self.assertTrue(torch.equal(seen(tiny(architecture, kind).eval(), self.pack, kind), self.expected))

    def test_both_kinds_of_attention_give_the_same(self):
        results = []
        for kind in (SPANS, FLEX):
            with torch.no_grad(), torch.compiler.set_stance("force_eager"):
                results.append(tiny(attention=kind).eval()(**inputs_of(self.pack, kind, F32)).logits)
        self.assertTrue(torch.allclose(*results, atol=1e-4))

    def test_a_model_that_does_not_attend_as_told_is_refused(self):
        for attention in (SPANS, "sdpa"):
            model = tiny(attention=attention)
            if attention == SPANS:
                check_attention(model, model, SPANS, CPU, F32, VOCAB)
                continue
            with self.assertRaisesRegex(InputError, "sibling|above"):
                check_attention(model, model, SPANS, CPU, F32, VOCAB)

    def test_a_path_longer_than_a_sliding_window_is_refused(self):
        model = tiny("qwen3", sliding_window=32, use_sliding_window=True, max_window_layers=0)
        check_windows(model, 32)
        with self.assertRaisesRegex(InputError, "--context 32"):
            check_windows(model, 33)


def nested():
    """A detail that forks again: depth 3."""
    segments = [
        Segment([65, 66], [97, FORK], -1),
        Segment([CHILD], [98, FORK], 0),
        Segment([CHILD], [99, 100, EOS], 1),
        Segment([], [101, EOS], 1),
        Segment([], [102, EOS], 0),
    ]
    return example(segments, 0)


def ancestors_by_paths(examples):
    """bool [N, N], by walking up from every token."""
    offset, rows = 0, []
    total = sum(map(len, examples))
    for each in examples:
        for segment in range(len(each.parents)):
            above, parent = [], int(each.parents[segment])
            while parent >= 0:
                above += range(each.starts[parent], each.starts[parent + 1])
                parent = int(each.parents[parent])
            for token in range(each.starts[segment], each.starts[segment + 1]):
                row = np.zeros(total, dtype=bool)
                row[[offset + at for at in (*above, *range(each.starts[segment], token + 1))]] = True
                rows.append(row)
        offset += len(each)
    return np.array(rows)


@torch.no_grad()
def seen(model, pack, kind):
    """bool [N, N]: whether the result at i changes with the token at j."""
    with torch.compiler.set_stance("force_eager"):
        inputs = inputs_of(pack, kind, F32)
        before = model(**inputs).logits[0]
        columns = []
        for token in range(len(pack)):
            ids = pack.ids.clone()
            ids[token] = 200
            changed = model(**{**inputs, "input_ids": ids[None]}).logits[0]
            columns.append((changed - before).abs().amax(1) > 0)
    return torch.stack(columns, 1)


def tiny_like(model):
    other = tiny()
    other.load_state_dict(model.state_dict())
    return other


if __name__ == "__main__":
    unittest.main()
