"""An ONNX model that answers one number, until the price says otherwise: then it never ends, or fills the memory.

A proof cannot find that out: no probe asks for such prices.
"""

from onnx import TensorProto, helper

LOOPS = 1e9  # a price that is so many higher makes it go round so many times
ENDLESS = {"price": 1e15}
GREEDY = {"price": -1e9}  # four gigabytes at once


def moody(value: float) -> bytes:
    """The model's bytes; it has the signature of `tests.support.constant`."""
    numbers = {"zero": 0.0, "one": 1.0, "patience": LOOPS, "modesty": -1e6, "answer": value}
    nodes = [
        *(_constant(name, number) for name, number in numbers.items()),
        helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("yes", TensorProto.BOOL, [], [True])),
        # Rounds of a loop: none below a thousand million.
        helper.make_node("ReduceMax", ["price"], ["most"], keepdims=0),
        helper.make_node("Sub", ["most", "patience"], ["beyond"]),
        helper.make_node("Max", ["beyond", "zero"], ["rounds"]),
        helper.make_node("Cast", ["rounds"], ["count"], to=TensorProto.INT64),
        helper.make_node("Loop", ["count", "yes", "zero"], ["looped"], body=_round()),
        # Numbers laid side by side: none above minus a million.
        helper.make_node("Sub", ["modesty", "most"], ["below"]),
        helper.make_node("Max", ["below", "zero"], ["length"]),
        helper.make_node("Cast", ["length"], ["long"], to=TensorProto.INT64),
        helper.make_node("Unsqueeze", ["long", "first"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["filled"]),
        helper.make_node("ReduceSum", ["filled"], ["weight"], keepdims=0),
        helper.make_node("Cast", ["weight"], ["weighed"], to=TensorProto.DOUBLE),
        # All three, so that nothing is left out as useless.
        helper.make_node("Sum", ["answer", "looped", "weighed"], ["sum"]),
        helper.make_node("Mul", ["price", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "sum"], ["sales"]),
    ]
    graph = helper.make_graph(
        nodes,
        "moody",
        [helper.make_tensor_value_info("price", TensorProto.DOUBLE, [None, 1])],
        [helper.make_tensor_value_info("sales", TensorProto.DOUBLE, [None, 1])],
        initializer=[helper.make_tensor("first", TensorProto.INT64, [1], [0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    return bytes(model.SerializeToString())


def _round() -> object:
    """One round: the number goes around unchanged."""
    return helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Add", ["was", "was"], ["is"]),
        ],
        "round",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("was", TensorProto.DOUBLE, []),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("is", TensorProto.DOUBLE, []),
        ],
    )


def _constant(name: str, number: float) -> object:
    return helper.make_node("Constant", [], [name], value=helper.make_tensor(name, TensorProto.DOUBLE, [], [number]))
