import unittest

import numpy as np
import torch
import torch.nn.functional as F

from apar_train.loss import weighted_loss
from apar_train.packing import build_trie, pack

from .support import EOS, FORK, conversation, sequence, tiny


def separate_rows(model, conversations):
    """Loss the plain way: every row on its own, causal attention, labels shifted by one."""
    total = torch.zeros(())
    count = 0
    for row in (row for rows in conversations for row in rows):
        logits = model(torch.from_numpy(row.ids)[None])[0]
        total = total + F.cross_entropy(logits[:-1], torch.from_numpy(row.labels[1:]), ignore_index=-100, reduction="sum")
        count += int((row.labels[1:] != -100).sum())
    return total, count


class Packing(unittest.TestCase):
    def test_loss_and_gradient_equal_those_of_separate_rows(self):
        rng = np.random.default_rng(1)
        conversations = [conversation(rng, branches) for branches in (5, 3, 0, 1, 4)]
        plain, packed = tiny(), tiny()
        expected, count = separate_rows(plain, conversations)
        batch = pack([build_trie(rows) for rows in conversations])
        loss, weight = weighted_loss(packed, batch)
        self.assertLess(batch.ids.numel(), 0.75 * sum(len(row.ids) for rows in conversations for row in rows))
        self.assertEqual(float(weight), count)
        self.assertAlmostEqual(float(loss) / count, float(expected) / count, places=4)
        expected.backward()
        loss.backward()
        for (name, a), b in zip(plain.named_parameters(), packed.parameters()):
            self.assertTrue(torch.allclose(a.grad, b.grad, rtol=1e-3, atol=1e-3), name)

    def test_a_token_that_two_rows_learn_counts_twice(self):
        trie = build_trie([sequence([1], [7, 8]), sequence([1], [7, 9])])
        self.assertEqual(trie.ids.tolist(), [1, 7, 8, 9])
        self.assertEqual(trie.weights.tolist(), [0, 2, 1, 1])
        self.assertEqual(trie.depths.tolist(), [0, 1, 2, 2])
        self.assertEqual(trie.visible[3].tolist(), [True, True, False, True])

    def test_a_banned_token_has_no_share_and_no_gradient(self):
        model = tiny()
        with torch.no_grad():
            model.model.embed_tokens.weight[FORK] = 4 * model.model.embed_tokens.weight[7]
        row, other = sequence([1, 9], [7, 8, EOS]), sequence([1], [6, FORK, 5])
        logits = model(torch.from_numpy(row.ids)[None])[0]
        logits[:, FORK] = float("-inf")
        expected = F.cross_entropy(logits[:-1], torch.from_numpy(row.labels[1:]), ignore_index=-100, reduction="sum")
        banned, free = (weighted_loss(model, pack([build_trie([row], token)]))[0] for token in (FORK, None))
        self.assertAlmostEqual(float(banned), float(expected), places=4)
        self.assertGreater(float(free), float(banned) + 0.01)
        # The ban is the row's own: what lies beside it in a batch learns [Fork] as ever.
        both = weighted_loss(model, pack([build_trie([row], FORK), build_trie([other])]))[0]
        alone = weighted_loss(model, pack([build_trie([other])]))[0]
        self.assertAlmostEqual(float(both), float(banned) + float(alone), places=3)
        banned.backward()
        self.assertEqual(float(model.model.embed_tokens.weight.grad[FORK].abs().sum()), 0.0)

    def test_lines_are_filled_and_their_tries_do_not_see_each_other(self):
        tries = [build_trie([sequence([1], list(range(5, 5 + n)))]) for n in (9, 4, 3, 2)]
        batch = pack(tries)
        self.assertEqual(tuple(batch.ids.shape), (3, 10))
        self.assertFalse(torch.isinf(batch.bias).all(-1).any())
        self.assertEqual(int((batch.bias == 0).sum()), sum(n * (n + 1) // 2 for n in (10, 5, 4, 3)) + 30 - 22)


if __name__ == "__main__":
    unittest.main()
