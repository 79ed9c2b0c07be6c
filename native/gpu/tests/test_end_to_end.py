"""The comparison of two runs of the decoder: what counts as a divergence."""

import unittest

from verification.answers import compare

PROMPT = 10  # tokens
FORK, CHILD = 90, 91


def branch(number, parent, start, tokens, finish="stop", gaps=None):
    return {"branch": number, "parent": parent, "start": start, "tokens": tokens, "finish": finish,
            "gaps": gaps or [1.0] * len(tokens)}


def root(tokens, **fields):
    return branch(0, None, PROMPT, tokens, **fields)


def child(number, index_of_fork, tokens, **fields):
    """A child of the root, forked after the root's own token at that index."""
    return branch(number, 0, PROMPT + index_of_fork + 1, [CHILD, *tokens], **fields)


def request(*branches, number=0):
    return {"request": number, "finish": "stop", "branches": list(branches)}


MAIN = [1, 2, FORK, 3, 4, FORK, 5]
TREE = request(root(MAIN), child(1, 2, [6, 7]), child(2, 5, [8]))


class OneRequest(unittest.TestCase):
    def compare(self, found, expected=TREE):
        return compare([expected], [found])

    def only(self, found, expected=TREE):
        comparison = self.compare(found, expected)
        self.assertEqual(len(comparison.divergences), 1, comparison.divergences)
        self.assertEqual(comparison.agreeing(), 0)
        return comparison.divergences[0]

    def test_equal_tokens_are_no_divergence(self):
        comparison = self.compare(TREE)
        self.assertEqual((comparison.divergences, comparison.agreeing(), comparison.tokens), ([], 1, 12))
        self.assertEqual(comparison.gap_changes, [0.0] * 12)

    def test_branch_numbers_do_not_matter(self):
        swapped = request(root(MAIN), child(1, 5, [8]), child(2, 2, [6, 7]))
        self.assertEqual(self.compare(swapped).divergences, [])

    def test_a_different_token_is_reported_with_its_gap(self):
        expected = request(root(MAIN), child(1, 2, [6, 7], gaps=[None, 3.0, 0.25]), child(2, 5, [8]))
        divergence = self.only(request(root(MAIN), child(1, 2, [6, 9]), child(2, 5, [8])), expected)
        self.assertEqual((divergence.branch, divergence.index, divergence.position), (1, 2, PROMPT + 5))
        self.assertEqual((divergence.expected, divergence.found, divergence.gap), (7, 9, 0.25))

    def test_where_one_branch_ends_the_gap_is_that_of_the_run_that_continues(self):
        longer = request(root([*MAIN, 11], gaps=[1.0] * 7 + [0.5]), *TREE["branches"][1:])
        divergence = self.only(longer)
        self.assertEqual((divergence.index, divergence.expected, divergence.found, divergence.gap), (7, "stop", 11, 0.5))
        self.assertEqual(self.only(TREE, longer).gap, 0.5)

    def test_a_different_finish_reason_is_a_divergence(self):
        divergence = self.only(request(root(MAIN), child(1, 2, [6, 7], finish="length"), child(2, 5, [8])))
        self.assertEqual((divergence.expected, divergence.found, divergence.gap), ("stop", "length", None))

    def test_branches_below_a_diverged_prefix_are_not_compared(self):
        # The root diverges after its first fork: the first child is compared, the second one and its own child are not.
        found = request(root([1, 2, FORK, 3, 9, FORK, 5]), child(1, 2, [6, 7]), child(2, 5, [33, FORK]),
                        branch(3, 2, PROMPT + 9, [CHILD, 44]))
        self.assertEqual(self.only(found).position, PROMPT + 4)
        worse = request(root([1, 2, FORK, 3, 9, FORK, 5]), child(1, 2, [6, 8]))
        self.assertEqual([d.branch for d in self.compare(worse).divergences], [0, 1])

    def test_an_additional_fork_is_a_divergence_of_its_parent(self):
        found = request(root([1, 2, FORK, 3, FORK]), child(1, 2, [6, 7]), child(2, 4, [8]))
        divergence = self.only(found)
        self.assertEqual((divergence.branch, divergence.index, divergence.expected, divergence.found), (0, 4, 4, FORK))

    def test_a_fork_without_its_branch_is_a_divergence_without_a_gap(self):
        fewer = request(root(MAIN), child(1, 2, [6, 7]))
        missing, extra = self.only(fewer), self.only(TREE, fewer)
        self.assertEqual((missing.branch, missing.expected, missing.found), (2, "a branch", "none"))
        self.assertEqual((extra.branch, extra.expected, extra.found), (2, "none", "a branch"))
        self.assertEqual(self.compare(fewer).beyond(100), [missing])

    def test_a_branch_that_a_limit_ended_counts_unless_another_branch_diverged(self):
        cut = child(2, 5, [], finish="length")
        self.assertIsNone(self.only(request(root(MAIN), child(1, 2, [6, 7]), cut)).gap)
        self.assertEqual(self.only(request(root(MAIN), child(1, 2, [6, 9]), cut)).branch, 1)


class Bound(unittest.TestCase):
    def divergence(self, gap):
        expected = request(root([1, 2], gaps=[1.0, gap]))
        return compare([expected], [request(root([1, 3], gaps=[1.0, None]))])

    def test_a_larger_gap_and_an_unknown_gap_are_beyond_the_bound(self):
        for gap, beyond in ((0.2, 0), (0.25, 0), (0.3, 1), (None, 1), (float("nan"), 1)):
            self.assertEqual(len(self.divergence(gap).beyond(0.25)), beyond, gap)


class Requests(unittest.TestCase):
    def test_diverging_requests_are_counted_once_and_ordered(self):
        same = [request(root(MAIN), number=number) for number in range(3)]
        found = [request(root(tokens), number=number) for number, tokens in enumerate([MAIN, [1], [2]])]
        comparison = compare(same, found)
        self.assertEqual([d.request for d in comparison.divergences], [1, 2])
        self.assertEqual((comparison.requests, comparison.agreeing()), (3, 1))

    def test_a_missing_request_is_an_error(self):
        with self.assertRaisesRegex(ValueError, "1 requests were answered, 2 were expected"):
            compare([request(root([1])), request(root([1]), number=1)], [request(root([1]))])
