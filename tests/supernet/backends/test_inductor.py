"""Compiled grouped edges give the numbers of those that are not; what cannot be compiled is told in one line.

The backend here runs what PyTorch's compiler has traced, forward and backward, without making kernels of it: that takes
minutes on a CPU, and is PyTorch's own affair.
"""

import copy
import dataclasses

import pytest
import torch
from torch.nn import functional as F

from ddarts.errors import SettingsError
from ddarts.nn.batch_norm import synchronise
from ddarts.nn.pools import average_pool
from ddarts.searching.alpha_step import AblationPlan
from ddarts.space.cell_space import build_space
from ddarts.supernet.backends.inductor import compile_edges, compiler_errors_explained
from ddarts.supernet.cell import MixedCell
from ddarts.supernet.grouped_edges import GroupedEdges
from ddarts.supernet.supernet import Supernet
from tests.searching.gradients import sigmoid_gates, sigmoid_step

BACKEND = "aot_eager"

# PyTorch's tracer looks at .grad of tensors that have none and hides its own warning, but not where warnings are errors
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")


@pytest.fixture(autouse=True, scope="module")
def forget():
    """Begin and end without anything compiled; tests share what they compile alike, as cells do."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def space_of(cells, nodes):
    """A space of a pool, an operation without weights and two with weights: a test of its own has all operations."""
    operations = ("max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_3x3")
    return dataclasses.replace(build_space(cells=cells, nodes=nodes, reductions=()), operations=operations)


def network(cells=2, nodes=1, channels=4):
    torch.manual_seed(0)
    net = Supernet(space_of(cells, nodes), channels=channels).double()
    net.set_alphas(torch.randn(cells, *net.alphas[0].shape).tolist())
    return net.to(memory_format=torch.channels_last)


def batch():
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(3, 3, 8, 8, dtype=torch.float64, generator=generator)
    return images, torch.tensor([0, 5, 9])


def plan(net, use, kind):
    generator = torch.Generator().manual_seed(2)
    shape = net.alphas[0].shape
    drawn = [torch.rand(shape, dtype=torch.float64, generator=generator) for _ in net.alphas]
    return AblationPlan(use, kind, range(len(net.alphas)), drawn if kind == "random" else (), 0.7)


def step(net, use, kind):
    """Everything that a search step computes: gradients of alphas and weights, contributions, running statistics."""
    x, y = batch()
    found = sigmoid_step(net, x, y, zero_one_weight=1.0, plan=plan(net, use, kind))
    net.zero_grad()
    F.cross_entropy(net(x, [g.detach() for g in sigmoid_gates(net)]), y).backward()
    weights = [p.grad for p in net.weight_parameters()]
    return [*found.gradients, found.marginal, *weights, *(b for b in net.buffers() if b.is_floating_point())]


@pytest.mark.parametrize(("use", "kind"), [("monitor", "random"), ("gradient", "zero")])
def test_a_search_step_gives_the_same_numbers(use, kind):
    plain = network()
    compiled = copy.deepcopy(plain)
    compile_edges(compiled, BACKEND)
    for found, expected in zip(step(compiled, use, kind), step(plain, use, kind), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def test_computing_cells_twice_gives_the_same_numbers_and_moves_statistics_once():
    plain = network()
    compiled = copy.deepcopy(plain)
    compiled.recompute = True
    compile_edges(compiled, BACKEND)
    for found, expected in zip(step(compiled, "off", "zero"), step(plain, "off", "zero"), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("stride", [1, 2])
def test_every_operation_of_the_large_space_gives_the_same_numbers(stride):
    torch.manual_seed(0)
    operations = build_space("dartopti", cells=1, nodes=1).operations
    edges = GroupedEdges(operations, 4, 2, stride).double().to(memory_format=torch.channels_last)
    send = torch.compile(GroupedEdges.send, backend=BACKEND, fullgraph=True, dynamic=False)
    gates = torch.rand(2, len(operations), dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64).to(memory_format=torch.channels_last).requires_grad_()
    results = []
    for function in (GroupedEdges.send, send):
        sums, _ = function(edges, x, gates)
        wanted = [x, gates, *edges.parameters()]
        results.append([*sums, *torch.autograd.grad(torch.stack(sums).pow(3).sum(), wanted)])
    for found, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)


def test_fans_of_one_shape_are_compiled_once():
    made = []

    def backend(graph, _):
        made.append(graph)
        return graph.forward

    torch.compiler.reset()
    net = Supernet(space_of(cells=4, nodes=2), channels=4)
    compile_edges(net, backend)
    with torch.no_grad():
        net(torch.randn(2, 3, 8, 8), sigmoid_gates(net))
    groups = sum(isinstance(module, GroupedEdges) for module in net.modules())
    # two edges to nodes that have received nothing yet, two to nodes that have, one
    assert (groups, len(made)) == (12, 3)


def test_more_shapes_than_pytorch_allows_by_itself_are_compiled():
    made = []

    def backend(graph, _):
        made.append(graph)
        return graph.forward

    torch.compiler.reset()
    net = network(cells=1)
    compile_edges(net, backend)
    edges, cell = GroupedEdges(("skip_connect",), 2, 1, 1), net.cells[0]
    assert isinstance(cell, MixedCell)
    with torch.no_grad():
        for side in range(4, 13):
            cell.send(edges, torch.randn(2, 2, side, side), torch.rand(1, 1))
    assert len(made) == 9  # PyTorch allows 8


def test_a_compiled_network_has_the_same_names_and_can_be_copied():
    net = network()
    names = set(net.state_dict())
    compile_edges(net, BACKEND)
    assert set(net.state_dict()) == names
    twin = copy.deepcopy(net)
    with torch.no_grad():
        for p in net.parameters():
            p.zero_()
        assert twin(batch()[0], sigmoid_gates(twin)).abs().max() > 0


def test_a_failing_compiler_is_told_in_one_line():
    def backend(graph, _):
        raise RuntimeError("no compiler for this device")

    net = network()
    compile_edges(net, backend)
    with (
        pytest.raises(SettingsError, match=r"no compiler for this device; choose another backend") as caught,
        compiler_errors_explained(),
    ):
        net(batch()[0], sigmoid_gates(net))
    assert "\n" not in str(caught.value)


def test_other_errors_stay_what_they_are():
    with pytest.raises(ValueError, match="not of the compiler"), compiler_errors_explained():
        raise ValueError("not of the compiler")


def test_synchronised_batch_norm_is_refused():
    net = network()
    synchronise(net)
    with pytest.raises(SettingsError, match="choose another backend, or leave out sync_batch_norm"):
        compile_edges(net)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(8, 8), (7, 5), (1, 3), (1, 1)])
def test_the_compiled_average_pool_is_pytorchs(stride, size):
    x = torch.randn(2, 3, *size, dtype=torch.float64).to(memory_format=torch.channels_last)
    found = torch.compile(average_pool, backend="eager", fullgraph=True)(x, stride)
    torch.testing.assert_close(found, F.avg_pool2d(x, 3, stride, 1, count_include_pad=False))
