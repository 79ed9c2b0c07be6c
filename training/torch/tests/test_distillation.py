"""Text is learned from what the base says of it; form from the data."""

import unittest

import numpy as np
import torch
import torch.nn.functional as F

from apar_train.data.packing import Weights, pack_examples
from apar_train.data.serial import serial_text, with_serial_text
from apar_train.data.shards import STRUCTURED, UNSTRUCTURED
from apar_train.model.adapter import add_adapter
from apar_train.model.attention import SPANS, inputs_of
from apar_train.model.loss import Soft, token_losses
from apar_train.model.teacher import teacher_logits, without_adapter

from .support import CHILD, EOS, FORK, META, Segment, conversation, example, tiny

F32 = torch.float32


def adapted(seed=0):
    """With an adapter that says something else than its base."""
    model = tiny(attention=SPANS, seed=seed)
    model = add_adapter(model, META, 4, 8, 0.0, None)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.2)
    return model


def logits_of(model, pack):
    return model(**inputs_of(pack, SPANS, F32)).logits[0]


def packed(examples, **weights):
    return with_serial_text(pack_examples(examples, META, Weights(**weights)), examples, META)


class SerialText(unittest.TestCase):
    def test_it_is_the_serial_copy_with_the_ends_not_learned(self):
        rng = np.random.default_rng(1)
        for forks in (0, 1, 4):
            tree, serial = conversation(rng, forks)
            text = serial_text(tree, META)
            self.assertEqual(text.ids.tolist(), serial.ids.tolist())
            self.assertEqual(text.learned.tolist(), [*serial.learned.tolist()[:-1], False])

    def test_a_branch_within_a_branch_and_ends_of_turns(self):
        nested = example([Segment([65], [97, FORK], -1), Segment([CHILD], [98, FORK], 0), Segment([CHILD], [99, EOS], 1),
                          Segment([], [100, EOS], 1), Segment([], [101, EOS], 0)], STRUCTURED)  # fmt: skip
        self.assertEqual(serial_text(nested, META).ids.tolist(), [65, 97, 98, 99, 100, 101, EOS])
        turns = example([Segment([65, EOS, 66], [97, EOS], -1)], UNSTRUCTURED)
        self.assertEqual(serial_text(turns, META).ids.tolist(), [65, EOS, 66, 97, EOS])

    def test_its_learned_tokens_are_the_packs_targets_of_text(self):
        rng = np.random.default_rng(2)
        examples = [each for forks in (3, 0, 2) for each in conversation(rng, forks)]
        pack = packed(examples)
        self.assertEqual(pack.serial.pack.targets.tolist(), pack.targets[pack.serial.learned_at].tolist())
        self.assertEqual(set(pack.targets[~pack.serial.learned_at].tolist()), {FORK, EOS})


class Distillation(unittest.TestCase):
    def test_loss_and_gradient_are_those_written_out(self):
        model = adapted()
        rng = np.random.default_rng(3)
        examples = [each for forks in (2, 0) for each in conversation(rng, forks)]
        pack = packed(examples, fork=2)
        with torch.no_grad(), without_adapter(model):
            said = []
            for each in examples:
                text = serial_text(each, META)
                logits = logits_of(model, pack_examples([text], META, Weights()))[np.flatnonzero(text.learned) - 1]
                logits[:, [FORK, CHILD]] = float("-inf")
                said.append(logits.softmax(1))
        logits = logits_of(model, pack)[pack.sources]
        logits = logits.masked_fill(pack.banned[:, None] & (torch.arange(logits.shape[1]) == FORK), -1e9)
        targets = F.one_hot(pack.targets, logits.shape[1]).float()
        targets[pack.serial.learned_at] = 0.3 * targets[pack.serial.learned_at] + 0.7 * torch.cat(said)
        expected = -(targets * logits.log_softmax(1)).sum(1) @ pack.weights / 10
        found = token_losses(model, pack, META, SPANS, F32, 0.1, taught(model, pack, 0.7))
        self.assertAlmostEqual(found.total.item(), expected.item(), places=4)
        for a, b in zip(gradients(model, found.total), gradients(model, expected)):
            self.assertTrue(torch.allclose(a, b, rtol=1e-3, atol=1e-5))
        plain = token_losses(model, pack, META, SPANS, F32)
        self.assertTrue(torch.allclose(found.losses, plain.losses), "what is logged is the cross-entropy with the data")

    def test_an_adapter_that_changes_nothing_has_little_to_learn(self):
        """Only that a base says neither [Fork] nor [Child]; the data say much else."""
        model = add_adapter(tiny(attention=SPANS), META, 4, 8, 0.0, None)
        pack = packed([conversation(np.random.default_rng(4), 0)[0]], eos=0)

        def largest(soft):
            return max(g.abs().max().item() for g in gradients(model, token_losses(model, pack, META, SPANS, F32, 1.0, soft).total))

        self.assertLess(largest(taught(model, pack, 1.0)), 0.2 * largest(None))

    def test_the_adapter_is_there_again_and_gradients_were_not_touched(self):
        model = adapted()
        pack = packed([conversation(np.random.default_rng(5), 1)[0]])
        required = [p.requires_grad for p in model.parameters()]
        with torch.no_grad():
            before = logits_of(model, pack)
            with without_adapter(model):
                self.assertFalse(torch.allclose(logits_of(model, pack), before))
                self.assertEqual([p.requires_grad for p in model.parameters()], required)
            self.assertTrue(torch.equal(logits_of(model, pack), before))


def taught(model, pack, share):
    logits = teacher_logits(model, model, pack.serial.pack, META, SPANS, torch.float32)
    return Soft(logits, pack.serial.learned_at, share)


def gradients(model, total):
    model.zero_grad()
    total.backward()
    return [parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.requires_grad and "lora" in name]


if __name__ == "__main__":
    unittest.main()
