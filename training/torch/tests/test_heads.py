"""Medusa heads judge what separate rows judge, along every path of a tree."""

import unittest
import unittest.mock

import numpy as np
import torch
import torch.nn.functional as F

from apar_train.data.packing import Weights, pack_examples
from apar_train.data.shards import SERIAL
from apar_train.model import head_loss
from apar_train.model.attention import SPANS
from apar_train.model.frozen import hidden_states
from apar_train.model.head_loss import ranks_of
from apar_train.model.heads import CONDITIONED, OWN, SHARED, MedusaHeads, Shape, head_means, sources_of

from .support import CHILD, EOS, FORK, META, VOCAB, Segment, conversation, example, tiny
from .test_exactness import nested, paths

F32 = torch.float32
HIDDEN = 64


def heads_of(model, shape):
    return MedusaHeads(shape, model.lm_head.weight, model.get_input_embeddings().weight)


def random_heads(count, layers, kind, model):
    """Heads that are not the model's own."""
    heads = heads_of(model, Shape(count, layers, kind, HIDDEN, VOCAB))
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in heads.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return heads


def judged(heads, plain, pack, ranks=False):
    hidden = hidden_states(plain, pack, SPANS, F32)
    model = (plain.get_output_embeddings().weight, plain.get_input_embeddings().weight)
    return heads(hidden, pack, *model, 1.0, META.fork, ranks)


def naive(heads, model, examples, weights):
    """Every segment in a row of its own behind its path, causal attention; head i's labels are shifted by i + 2. The sum of
    all losses, and of each head (losses, how many tokens are likelier than the target)."""
    state = dict(heads.named_parameters())
    total, found = torch.zeros(()), [([], []) for _ in range(heads.shape.heads)]
    for each in examples:
        for ids, learned in paths(each):
            labels = torch.full((len(ids),), -100)
            labels[len(ids) - len(learned) :][torch.from_numpy(learned)] = torch.tensor(ids)[len(ids) - len(learned) :][learned]
            with torch.no_grad():
                hidden = model.model(torch.tensor([ids])).last_hidden_state[0]
            if heads.shape.kind == CONDITIONED:
                # What is behind the last token has no target.
                e = model.get_input_embeddings().weight.detach()[[*ids[1:], 0]] / heads.next_token.unit
                hidden = hidden + e @ state["next_token.weight"].t()
            for head in range(heads.shape.heads):
                x = hidden
                for layer in range(heads.shape.layers):
                    x = x + F.silu(x @ state[f"{head}.{layer}.linear.weight"].t() + state[f"{head}.{layer}.linear.bias"])
                matrix = model.lm_head.weight if heads.shape.kind != OWN else state[f"{head}.{heads.shape.layers}.weight"]
                logits = x @ matrix.t()
                if each.kind == SERIAL:
                    logits = logits.index_fill(1, torch.tensor([FORK]), float("-inf"))
                for at in range(len(ids) - head - 2):
                    target = int(labels[at + head + 2])
                    if target < 0:
                        continue
                    loss = -F.log_softmax(logits[at], 0)[target]
                    total = total + loss * {FORK: weights.fork, EOS: weights.eos}.get(target, 1)
                    found[head][0].append(float(loss.detach()))
                    found[head][1].append(int((logits[at] > logits[at, target]).sum()))
    return total, found


class OfSmallerVocabulary(unittest.TestCase):
    def test_tokens_without_a_row_are_no_targets_and_no_rivals(self):
        model = tiny()
        pack = pack_examples([conversation(np.random.default_rng(1), 2)[0], conversation(np.random.default_rng(2), 0)[1]], META, Weights())
        self.assertIn(FORK, pack.targets.tolist())
        with torch.no_grad():
            hidden = hidden_states(model, pack, SPANS, F32)
            ways = [judged(heads_of(model, Shape(2, 1, kind, HIDDEN, FORK)), model, pack, ranks=True) for kind in (OWN, SHARED)]
        for found, head in ((found, head) for found in ways for head in (0, 1)):
            sources, _, here = sources_of(pack, head)
            targets = pack.targets[here]
            logits = (hidden[sources] @ model.lm_head.weight[:FORK].t())[targets < FORK]  # a new head is the model's own
            targets = targets[targets < FORK]
            torch.testing.assert_close(found.losses[head], F.cross_entropy(logits, targets, reduction="none"))
            self.assertEqual(found.ranks[head].tolist(), (logits > logits.gather(1, targets[:, None])).sum(1).tolist())


class Paths(unittest.TestCase):
    def test_loss_gradient_and_ranks_equal_those_of_separate_rows(self):
        weights = Weights(fork=3, eos=0.5)
        cases = (("llama", SHARED, 1, 2), ("llama", OWN, 2, 2), ("qwen3", OWN, 1, 8), ("qwen3", SHARED, 2, 3),
                 ("llama", CONDITIONED, 1, 3), ("qwen3", CONDITIONED, 2, 2))  # fmt: skip
        for seed, (architecture, kind, layers, count) in enumerate(cases):
            with self.subTest(architecture=architecture, kind=kind, layers=layers, heads=count):
                rng = np.random.default_rng(seed)
                trees = [conversation(rng, forks) for forks in (4, 2, 0)]
                short = example([Segment([65], [97, FORK, 98], -1)], 0)
                examples = [*(tree for tree, _ in trees), trees[1][1], nested(), short]
                plain, packed = tiny(architecture, "sdpa"), tiny(architecture, SPANS)
                heads = random_heads(count, layers, kind, plain)
                expected, parts = naive(heads, plain, examples, weights)
                gradients = torch.autograd.grad(expected, list(heads.parameters()))
                pack = pack_examples(examples, META, weights)
                found = judged(heads, packed, pack)
                self.assertIsNone(found.ranks)
                self.assertAlmostEqual(found.total.item() / expected.item(), 1, places=5)
                self.assertAlmostEqual(found.weighted_sum().item() / expected.item(), 1, places=5)
                found.total.backward()
                for (name, parameter), gradient in zip(heads.named_parameters(), gradients):
                    self.assertTrue(torch.allclose(parameter.grad, gradient, rtol=1e-3, atol=1e-4), name)
                with torch.no_grad():
                    ranked = judged(heads, packed, pack, ranks=True)
                for head, (losses, ranks) in enumerate(parts):
                    self.assertTrue(np.allclose(sorted(losses), ranked.losses[head].sort().values, atol=1e-3), head)
                    self.assertEqual(sorted(ranks), ranked.ranks[head].sort().values.tolist())

    def test_a_token_before_a_fork_is_judged_by_each_continuation(self):
        pack = pack_examples([nested()], META, Weights())
        # ids: 65 66 97 F | C 98 F | C 99 100 E | 101 E | 102 E
        sources, behind, here = sources_of(pack, 0)
        self.assertEqual({int(pack.ids[at]) for source, at in zip(sources, behind) if source == 3}, {CHILD, 102})
        pairs = sorted(zip(sources.tolist(), pack.targets[here].tolist()))
        # 97 stands before [Fork], behind which come [Child], which is not learned, and 102.
        self.assertEqual([target for source, target in pairs if source == 2], [102])
        self.assertEqual([target for source, target in pairs if source == 3], [98, EOS])
        sources, _, here = sources_of(pack, 1)
        pairs = sorted(zip(sources.tolist(), pack.targets[here].tolist()))
        self.assertEqual([target for source, target in pairs if source == 3], [FORK])
        self.assertEqual([target for source, target in pairs if source == 2], [98, EOS])

    def test_what_is_not_learned_here_has_no_gradient_and_no_nan(self):
        plain = tiny(attention=SPANS)
        heads = random_heads(3, 1, OWN, plain)
        found = judged(heads, plain, pack_examples([example([Segment([65], [97], -1)], 0)], META, Weights()))
        found.total.backward()
        self.assertEqual([len(losses) for losses in found.losses], [0, 0, 0])
        self.assertTrue(all(float(p.grad.abs().sum()) == 0 for p in heads.parameters()))
        self.assertEqual(head_means({"head_0_loss": (0.0, 0.0)}), {})


class Beginning(unittest.TestCase):
    def test_a_head_begins_as_the_models_own(self):
        plain = tiny(attention=SPANS)
        pack = pack_examples([conversation(np.random.default_rng(1), 2)[0]], META, Weights())
        for kind in (OWN, SHARED, CONDITIONED):
            heads = heads_of(plain, Shape(2, 2, kind, HIDDEN, VOCAB))
            with torch.no_grad():
                hidden = hidden_states(plain, pack, SPANS, F32)
                found = judged(heads, plain, pack)
                for head in range(2):
                    sources, _, here = sources_of(pack, head)
                    expected = F.cross_entropy(hidden[sources] @ plain.lm_head.weight.t(), pack.targets[here], reduction="none")
                    self.assertTrue(torch.allclose(found.losses[head], expected, atol=1e-4))


class Chunks(unittest.TestCase):
    def test_the_size_of_chunks_changes_nothing(self):
        plain = tiny(attention=SPANS)
        pack = pack_examples([conversation(np.random.default_rng(2), 5)[0]], META, Weights())
        found = []
        for size in (4 * VOCAB * 3, 1 << 30):
            with unittest.mock.patch.dict(head_loss.CHUNK_BYTES, cpu=size):
                heads = random_heads(2, 1, OWN, plain)
                loss = judged(heads, plain, pack).total
                (2 * loss).backward()
                found.append((loss.item(), [p.grad for p in heads.parameters()]))
        self.assertAlmostEqual(found[0][0], found[1][0], places=2)
        for a, b in zip(found[0][1], found[1][1]):
            self.assertTrue(torch.allclose(a, b, rtol=1e-3, atol=1e-4))

    def test_of_equal_logits_the_lower_id_comes_first_and_a_banned_fork_never(self):
        logits = torch.zeros(3, VOCAB)
        logits[2, FORK] = 1
        targets, banned = torch.tensor([5, 0, 2]), torch.tensor([False, False, True])
        self.assertEqual(ranks_of(logits, targets, banned, FORK).tolist(), [5, 0, 2])
        self.assertEqual(ranks_of(logits, targets, ~banned, FORK).tolist(), [5, 0, 3])


if __name__ == "__main__":
    unittest.main()
