"""A network as a graph that a browser runs: all that the page shows of it, from one run, in ONNX.

    graph = export(models.load("se"), weights, "se.safetensors")     # bytes of an ONNX file

What goes in and comes out, beside the weights:

    pixels      (1, 3, 32, 32) uint8
    target      (1, classes): the class to explain as one 1; all zeros for the predicted one
    shuffled, ignored (n,); keep.i, shift.i, of the shape of the i-th gate or share t. The network gets
                keep t + shift + shuffled[i] (t with its cells shuffled) + ignored[i] (t averaged over those
                who ask), kept within its bounds or made to sum to one: 1, 0, 0, 0 is the network as trained.
                Every replacement of `models.replacements` can be written so.
    logits      (1, classes)
    LAYER.output, LAYER.gradient of the eight blocks, and every record under its path

The file holds no weights. It says where they lie in the stored file of the checkpoint, as it ships: int8,
which becomes float32 on the visitor's device by one multiplication, as in `models.checkpoint`. The engine
does that once, when it loads the graph, and then holds a weight twice, for a convolution and its gradient:
eight bytes for each. Layers with a million weights and more, which hold three quarters of all, therefore wait
as int8: a network takes far less memory, and a run somewhat longer.
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from math import prod

import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper
from torch import nn
from torch._decomp import get_decompositions
from torch._ops import OpOverload
from torch.func import functional_call
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing, make_fx
from torch.fx.passes.dialect.common.cse_pass import CSEPass

from models.catalogue import BLOCKS
from models.checkpoint import SCALE
from models.preprocessing import normalise
from models.recording import recording
from models.replacements import Attention, applies, attention_in, replace

aten = torch.ops.aten
OPSET = 18
INLINE = 64  # bytes: weights up to here stand in the graph
HEAVY = 2**20  # so many weights of one layer stay int8 in memory, and become float32 anew in each run
TYPES = {"F32": TensorProto.FLOAT, "I8": TensorProto.INT8}


class ExportError(Exception):
    """This network cannot become a graph; the message is one sentence that says why."""


def export(model: nn.Module, weights: bytes, location: str) -> bytes:
    """The graph of a network: bytes of an ONNX file.

    Args:
        model: in eval mode, on the CPU, with frozen parameters.
        weights: the stored file that these parameters were read from.
        location: the name under which the file is handed to the graph.

    Raises:
        ExportError: something in the network has no counterpart in ONNX.
    """
    with torch.no_grad(), recording(model) as records:
        logits = model(torch.zeros(1, 3, 32, 32))
    attention = attention_in(records)
    state = {key: value for key, value in model.state_dict().items() if value.is_floating_point()}
    inputs, function = joint(model, state, attention, logits)
    outputs = ["logits", *(f"{b}.output" for b in BLOCKS), *(f"{b}.gradient" for b in BLOCKS)]
    outputs += [path for path in records if path not in outputs]
    try:
        graph = fold_norms(traced(function, *inputs.values()), len(inputs) - len(state))
        give_each_its_own(graph)
        network = torch.onnx.export(
            graph.eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=outputs,
            opset_version=OPSET,
            dynamo=True,
            optimize=False,  # the engine does that itself, when it loads a graph
            verbose=False,
        ).model_proto
    except Exception as error:  # whatever the compiler and the exporter raise: they have no class in common
        raise ExportError(reason_of(error)) from error
    refer(network, list(state), weights, location)
    return lean(network)


def reason_of(error: Exception) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return first if isinstance(error, ExportError) else f"{type(error).__name__}: {first}"


def joint(
    model: nn.Module, state: dict[str, torch.Tensor], attention: dict[str, Attention], logits: torch.Tensor
) -> tuple[dict[str, torch.Tensor], Callable]:
    """One function of plain tensors that gives all outputs, and an example of each of its inputs by name."""
    found = list(attention.values())
    changes = [changes_of(each) for each in found]
    inputs = {
        "pixels": torch.zeros(1, 3, 32, 32, dtype=torch.uint8),
        "target": torch.zeros_like(logits),
    }
    if found:
        inputs |= {"shuffled": torch.zeros(len(found)), "ignored": torch.zeros(len(found))}
        for i, each in enumerate(found):
            inputs[f"keep.{i}"] = torch.ones(1, *each.shape)
            inputs[f"shift.{i}"] = torch.zeros(1, *each.shape)
    settings = len(inputs)

    def function(pixels: torch.Tensor, target: torch.Tensor, *others: torch.Tensor) -> tuple:
        edits = {}
        if found:
            shuffled, ignored, *pairs = others[: settings - 2]
            for i, each in enumerate(found):
                edits[each.path] = edit(each, changes[i], *pairs[2 * i : 2 * i + 2], shuffled[i], ignored[i])
        with torch.enable_grad(), recording(model, edits) as seen:
            images = normalise(pixels).to(target).detach().requires_grad_()  # in the network's precision
            logits = functional_call(model, dict(zip(state, others[settings - 2 :])), (images,))
        predicted = torch.zeros_like(target).scatter(1, logits.detach().argmax(1, keepdim=True), 1.0)
        explained = target + (1 - target.sum()) * predicted
        outputs = [seen[f"{block}.output"].tensor for block in BLOCKS]
        gradients = torch.autograd.grad((logits * explained).sum(), outputs)
        rest = [one.tensor.detach().float() for path, one in seen.items() if not is_block(path)]
        return logits.detach(), *(one.detach() for one in outputs), *gradients, *rest

    return inputs | {f"weight.{i}": value for i, value in enumerate(state.values())}, function


def is_block(path: str) -> bool:
    return path.removesuffix(".output") in BLOCKS


def changes_of(each: Attention) -> list[Callable | None]:
    """What shuffles a gate or share and what averages it over those who ask; None where it has no meaning."""
    found = []
    for name in ("shuffled", "query ignored"):
        change = replace(name, each.path, {each.path: each})[each.path] if applies(name, each) else None
        if change:
            change(torch.zeros(1, *each.shape))  # draws the order, which is no part of the graph
        found.append(change)
    return found


def edit(
    each: Attention,
    changes: list[Callable | None],
    keep: torch.Tensor,
    shift: torch.Tensor,
    *shares: torch.Tensor,
) -> Callable[[torch.Tensor], torch.Tensor]:
    def edited(t: torch.Tensor) -> torch.Tensor:
        mixed = keep * t + shift
        for share, change in zip(shares, changes):
            if change:
                mixed = mixed + share * change(t)
        return each.fit(mixed)

    return edited


# How PyTorch's operations become simpler ones. The weights are frozen and the network is in eval mode.


def convolution_backward(grad, x, weight, bias, stride, padding, dilation, transposed, extra, groups, mask):
    """The gradients of a convolution for its input and, where they depend on the picture, for its kernels."""
    given = grad, x, weight, stride, padding, dilation
    kernels = gradient_of_kernels(*given) if mask[1] and not transposed and groups == 1 else None
    if mask[1] and kernels is None:
        raise ExportError(
            "the gradient of kernels that depend on the picture is not written for its convolutions"
        )
    if transposed:
        usual = aten.convolution(grad, weight, None, stride, padding, dilation, False, (0, 0), groups)
        return usual, kernels, None  # that of a transposed convolution is a convolution
    return gradient_of_input(*given, groups), kernels, None


def gradient_of_kernels(grad, x, weight, stride, padding, dilation) -> torch.Tensor:
    read = F.unfold(x, weight.shape[2:], dilation, padding, stride)[0]  # of one picture: (C k k, h w)
    return (grad[0].flatten(1) @ read.T).view_as(weight)


def gradient_of_input(grad, x, weight, stride, padding, dilation, groups) -> torch.Tensor:
    """A transposed convolution with the same weight.

    Of heavy weights it is one product with them as they lie, added up: the engine's transposed convolution
    would turn them over in each run.
    """
    if weight.numel() >= HEAVY and weight.ndim == 4 and groups == 1:
        parts = (grad[0].flatten(1).T @ weight.flatten(1)).T[None]  # (1, C k k, h w)
        return aten.col2im(parts, x.shape[2:], weight.shape[2:], dilation, padding, stride)
    lost = [
        x.shape[2 + i]
        - ((grad.shape[2 + i] - 1) * stride[i] - 2 * padding[i] + dilation[i] * (weight.shape[2 + i] - 1) + 1)
        for i in range(weight.ndim - 2)
    ]
    return aten.convolution(grad, weight, None, stride, padding, dilation, True, lost, groups)


def slope(weight, var, eps, ndim) -> torch.Tensor:
    """What BatchNorm multiplies each channel by: a constant that the browser's engine folds away."""
    scale = (var + eps).rsqrt()
    return (scale if weight is None else scale * weight).view(-1, *[1] * (ndim - 2))


def batch_norm(x, weight, bias, mean, var, training, momentum, eps):
    if training:
        raise ExportError("it asks for the statistics of a batch")
    scale = slope(weight, var, eps, x.ndim)
    moved = -mean.view_as(scale) * scale
    return x * scale + (moved if bias is None else moved + bias.view_as(scale)), mean, var


def batch_norm_backward(grad, x, weight, mean, var, saved_mean, saved_scale, training, eps, mask):
    return grad * slope(weight, var, eps, x.ndim), None, None


def resized_back(grad: torch.Tensor, sizes: Sequence[int], resize: Callable) -> torch.Tensor:
    """The gradient of what makes each row and each column of a map longer or shorter: two products.

    Args:
        grad: (B, C, H', W'); sizes: those before, H and W.
        resize: makes (1, n, H) to (1, n, H').
    """
    with disable_proxy_modes_tracing():  # the matrices are constants
        units = (torch.eye(size, dtype=grad.dtype)[None] for size in sizes)
        down, right = (resize(unit, new)[0] for unit, new in zip(units, grad.shape[2:]))
    return down @ grad @ right.T


def adaptive_average_backward(grad, x):
    return resized_back(grad, x.shape[2:], F.adaptive_avg_pool1d)


def average_backward(grad, x, kernel, stride, padding, ceil_mode, count_include_pad, divisor):
    if len({*kernel}) > 1 or len({*stride}) > 1 or len({*padding}) > 1 or divisor:
        raise ExportError("the gradient of averages over oblong windows is not written")
    sizes = kernel[0], (stride or kernel)[0], padding[0]
    return resized_back(
        grad, x.shape[2:], lambda line, _: F.avg_pool1d(line, *sizes, ceil_mode, count_include_pad)
    )


def nearest_backward(grad, output_size, input_size, *scales):
    return resized_back(grad, input_size[2:], F.interpolate)


def bilinear_backward(grad, output_size, input_size, align_corners, *scales):
    linear = partial(F.interpolate, mode="linear", align_corners=align_corners)
    return resized_back(grad, input_size[2:], linear)


def adaptive_max_pool(x, sizes):
    kernel = [side // size for side, size in zip(x.shape[2:], sizes)]
    if [side * size for side, size in zip(kernel, sizes)] != list(x.shape[2:]):
        raise ExportError("maxima over windows that overlap are not written")
    return aten.max_pool2d_with_indices(x, kernel, kernel)


def adaptive_max_pool_backward(grad, x, indices):
    flat = torch.zeros_like(x).flatten(2)
    return flat.scatter_add(2, indices.flatten(2), grad.flatten(2)).view_as(x)


def max_pool_backward(grad, x, kernel, stride, padding, dilation, ceil_mode, indices):
    return adaptive_max_pool_backward(grad, x, indices)


RULES = get_decompositions(
    [
        aten.threshold_backward,
        aten.sigmoid_backward,
        aten.tanh_backward,
        aten._softmax_backward_data,
        aten._log_softmax_backward_data,
        aten.hardswish_backward,
        aten.hardsigmoid_backward,
        aten.silu_backward,
        aten.mish_backward,
        aten.gelu_backward,
        aten.elu_backward,
        aten.leaky_relu_backward,
        aten.select_backward,
        aten.slice_backward,
        aten.native_group_norm,
        aten.native_group_norm_backward,
        aten.native_layer_norm,
        aten.native_layer_norm_backward,
        aten.unfold_backward,
    ]
) | {
    aten.convolution_backward.default: convolution_backward,
    aten.avg_pool2d_backward.default: average_backward,
    aten._adaptive_avg_pool2d_backward.default: adaptive_average_backward,
    aten.upsample_nearest2d_backward.default: nearest_backward,
    aten.upsample_bilinear2d_backward.default: bilinear_backward,
    aten.max_pool2d_with_indices_backward.default: max_pool_backward,
    aten.adaptive_max_pool2d.default: adaptive_max_pool,
    aten.adaptive_max_pool2d_backward.default: adaptive_max_pool_backward,
    aten.native_batch_norm.default: batch_norm,
    aten.native_batch_norm_backward.default: batch_norm_backward,
}


def traced(function: Callable, *examples: torch.Tensor) -> GraphModule:
    """A function of tensors in simple operations, equal ones once.

    None writes into what it is given: where equal parts are one, it would write into another's, too.
    """
    graph = make_fx(function, decomposition_table=RULES)(*examples)
    for node in graph.graph.nodes:
        if isinstance(node.target, OpOverload) and node.target._schema.is_mutable:
            name = node.target._schema.name.removeprefix("aten::").removesuffix("_")
            node.target = getattr(getattr(aten, name), node.target._overloadname)
    return CSEPass()(graph).graph_module


def fold_norms(graph: GraphModule, settings: int) -> GraphModule:
    """Multiplies the weights of a convolution by what BatchNorm multiplies its channels by.

    The convolution and its gradient then share these weights, and need no step of their own for the norm.
    Heavy weights stay as they are: to multiply them in each run would take longer than the step.

    Args:
        settings: how many of the graph's inputs are not weights.
    """
    nodes = graph.graph.nodes
    inputs = [node for node in nodes if node.op == "placeholder"]
    fixed, last = set(inputs[settings:]), inputs[-1]
    for node in list(nodes):
        if node.all_input_nodes and all(one in fixed for one in node.all_input_nodes):
            fixed.add(node)
            last.append(node)  # what depends on weights alone comes first
            last = node
    folded = {}

    def fold(convolution: Node, slopes: Node) -> None:
        nonlocal last
        weight = convolution.args[1]
        if (weight, slopes) not in folded:
            axes = [-1, *[1] * (weight.meta["val"].ndim - 1)]
            with graph.graph.inserting_after(last):
                wide = graph.graph.call_function(aten.view.default, (slopes, axes))
            with graph.graph.inserting_after(wide):
                last = folded[weight, slopes] = graph.graph.call_function(aten.mul.Tensor, (weight, wide))
        convolution.update_arg(1, folded[weight, slopes])

    for node in list(nodes):
        if node.target is not aten.mul.Tensor or node.args[1] not in fixed or node.args[0] in fixed:
            continue
        (values, slopes), users = node.args, list(node.users)
        if slopes.meta["val"].shape != (values.meta["val"].shape[1], *[1] * (values.meta["val"].ndim - 2)):
            continue  # no norm
        before = is_light(values, transposed=False) and len(values.users) == 1
        after = len(users) == 1 and is_light(users[0], transposed=True) and users[0].args[0] is node
        if before and values.args[1] in fixed and values.args[2] is None:
            fold(values, slopes)
            node.replace_all_uses_with(values)
        elif after and users[0].args[1] in fixed:
            fold(users[0], slopes)
            node.replace_all_uses_with(values)
    graph.graph.lint()
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def give_each_its_own(graph: GraphModule) -> None:
    """Records that are equal, such as the same constant in several blocks, get a node and so a name each."""
    output, seen = graph.graph.output_node(), set()
    found = list(output.args[0])
    for i, node in enumerate(found):
        if node in seen:
            with graph.graph.inserting_before(output):
                found[i] = graph.graph.call_function(aten.clone.default, (node,))
        seen.add(node)
    output.args = (tuple(found),)
    graph.recompile()


def is_light(node: Node, transposed: bool) -> bool:
    """Whether it is a convolution of this kind whose weights are not heavy."""
    if node.target is not aten.convolution.default or node.args[6] is not transposed:
        return False
    return node.args[1].meta["val"].numel() < HEAVY


# From inputs to weights that lie in the checkpoint's file.


def refer(network: onnx.ModelProto, keys: Sequence[str], weights: bytes, location: str) -> None:
    """The inputs `weight.0`, ... become what the stored file holds under these keys, by their place in it."""
    length = int.from_bytes(weights[:8], "little")
    header, base = json.loads(weights[8 : 8 + length]), 8 + length
    graph, nodes = network.graph, []

    def stored(key: str, name: str, shape: list[int]) -> None:
        entry = header[key]
        start, end = (base + at for at in entry["data_offsets"])
        tensor = TensorProto(name=name, dims=shape, data_type=TYPES[entry["dtype"]])
        if end - start <= INLINE:
            tensor.raw_data = weights[start:end]
        else:
            tensor.data_location = TensorProto.EXTERNAL
            for field, value in (("location", location), ("offset", start), ("length", end - start)):
                tensor.external_data.add(key=field, value=str(value))
        graph.initializer.append(tensor)

    for i, key in enumerate(keys):
        name, shape = f"weight.{i}", header[key]["shape"]
        if header[key]["dtype"] == "F32":
            stored(key, name, shape)
            continue
        stored(key, f"{name}.steps", shape)
        if prod(shape) >= HEAVY:
            stored(key + SCALE, f"{name}.scale", shape[:1])
            given = [f"{name}.steps", f"{name}.scale"]
            nodes.append(helper.make_node("DequantizeLinear", given, [name], axis=0))  # which it never folds
            continue
        stored(key + SCALE, f"{name}.scale", [shape[0], *[1] * (len(shape) - 1)])
        nodes.append(helper.make_node("Cast", [f"{name}.steps"], [f"{name}.float"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [f"{name}.float", f"{name}.scale"], [name]))
    kept = [entry for entry in graph.input if not entry.name.startswith("weight.")]
    del graph.input[:]
    graph.input.extend(kept)
    nodes += graph.node
    del graph.node[:]
    graph.node.extend(nodes)


def lean(network: onnx.ModelProto) -> bytes:
    """The file, without what only says how it was made, and the same bytes every time."""
    network.producer_name = network.producer_version = network.doc_string = ""
    del network.metadata_props[:]
    del network.graph.metadata_props[:]
    del network.graph.value_info[:]
    for node in network.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for entry in (*network.graph.input, *network.graph.output):
        del entry.metadata_props[:]
    return network.SerializeToString(deterministic=True)
