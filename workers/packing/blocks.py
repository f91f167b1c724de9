"""The blocks of a LightGBM model's trees: its arrays woven into a pack's words, tree by tree.

Compiled, because a fleet has as many nodes as a large model has numbers, and numpy would walk them a dozen times.
"""

from typing import Any, Final

from workers.packing.compiling import compiled
from workers.packing.layout import MISSING_LEFT, MOST_NODES, SPECIAL, SPECIAL_LEFT, ZERO

COMPILED_IN: Final = ("layout",), "1b78737e0231"  # as in `workers.packing.kernel`

CATEGORICAL, AS_ZERO, NAN = 1, 4, 8  # bits of LightGBM's decision_type, beside SPECIAL_LEFT
_LARGEST_KIND: Final = 15

PLAIN, MIXED, UNKNOWN_KIND, NO_TREE, NO_FEATURE = range(5)


@compiled("int64(int64[::1], int64[::1], int64[:, ::1], float64[::1], int64[::1], int64[::1], int64[::1], int64[::1])")
def weave(
    nodes: Any, first: Any, whole: Any, thresholds: Any, leaves: Any, inputs: Any, places: Any, blocks: Any
) -> int:
    """Write the blocks, a tree's nodes and then its leaves, and where each begins.

    A node whose decision is a plain comparison, NaN going one known way, is flagged so; LightGBM's other rules (zero
    is missing, nearly zero is zero, categories) are special.

    Args:
        nodes: internal nodes of each tree, shape (trees,).
        first: the nodes' first words, shape (all nodes,).
        whole: split_feature, decision_type, left_child, right_child, shape (4, all nodes).
        thresholds: shape (all nodes,).
        leaves: the bits of the leaf values, shape (all nodes + trees,).
        inputs: position in the signature of each of the model's features.
        places: filled, shape (trees,).
        blocks: filled, shape (3 * all nodes + trees,).

    Returns:
        PLAIN if no node is special, else MIXED; or what is wrong.
    """
    at, leaf, node, woven = 0, 0, 0, PLAIN
    for tree in range(len(nodes)):
        count = nodes[tree]
        places[tree] = at | count << 32
        for one in range(node, node + count):
            feature, kind, left, right = whole[0, one], whole[1, one], whole[2, one], whole[3, one]
            if feature < 0 or feature >= len(inputs):
                return NO_FEATURE
            if kind < 0 or kind > _LARGEST_KIND or kind >> 2 == 3:
                return UNKNOWN_KIND
            if min(left, right) < -MOST_NODES - 1 or max(left, right) > MOST_NODES:
                return NO_TREE
            threshold = thresholds[one]
            if kind & (CATEGORICAL | AS_ZERO) or -ZERO <= threshold < ZERO:
                flags = kind | SPECIAL
                woven = MIXED
            else:
                goes_left = kind & SPECIAL_LEFT != 0 if kind & NAN else threshold >= 0.0
                flags = MISSING_LEFT if goes_left else 0
            blocks[at] = first[one]
            blocks[at + 1] = (left & 0xFFFF) | (right & 0xFFFF) << 16 | inputs[feature] << 32 | flags << 48
            at += 2
        node += count
        for one in range(leaf, leaf + count + 1):
            blocks[at] = leaves[one]
            at += 1
        leaf += count + 1
    return woven
