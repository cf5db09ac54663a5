"""The fast supernet is the plain one (`ddarts.supernet.reference`), number for number."""

from __future__ import annotations

import gc
import random

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddarts.errors import SettingsError
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.nn.batch_norm import BatchStatistics
from ddarts.nn.convolution import DepthwiseConv
from ddarts.nn.network import Network
from ddarts.space.cell_space import DARTOPTI_OPERATIONS, DARTS_OPERATIONS, SearchSpace, build_space
from ddarts.supernet.supernet import Supernet
from ddarts.testing import inherited_weights, reference_gradients
from tests.reference.supernet_mapping import build_twins, load_plain
from tests.searching.gradients import sigmoid_gates, sigmoid_step

_D, _O = DARTS_OPERATIONS, DARTOPTI_OPERATIONS


def _space(
    operations: tuple[str, ...],
    nodes: int,
    sequence: tuple[int, ...],
    reductions: tuple[int, ...],
    concat: tuple[int, ...] | None = None,
) -> SearchSpace:
    return SearchSpace(operations, nodes, concat or tuple(range(2, nodes + 2)), sequence, reductions)


#: space, channels, in_channels, size
_CASES: dict[str, tuple[SearchSpace, int, int, tuple[int, int]]] = {
    "darts": (_space(_D, 4, (0, 1, 2), (1,)), 4, 3, (8, 8)),
    "dartopti": (_space(_O, 3, (0, 1, 2), (1,)), 4, 3, (8, 8)),
    "one node": (_space(_O, 1, (0, 1, 2), (1, 2)), 4, 3, (8, 8)),
    "eight nodes": (_space(_D, 8, (0, 1), (0,)), 2, 3, (6, 6)),
    "odd channels, odd size": (_space(_O, 2, (0, 1, 2), (0, 1)), 5, 1, (9, 11)),
    "seven channels, five bands": (_space(_D, 3, (0, 1, 2), (2,)), 7, 5, (7, 4)),
    "one channel": (_space(_O, 2, (0, 1, 2), (1,)), 1, 1, (8, 6)),
    "one channel halved at once": (_space(_D, 2, (0, 1), (0,)), 1, 3, (5, 5)),
    "no reduction": (_space(_D, 2, (0, 1), ()), 3, 3, (4, 4)),
    "reductions only": (_space(_D, 2, (0, 1, 2), (0, 1, 2)), 2, 3, (16, 16)),
    "one alpha for all": (_space(_O, 2, (0, 0, 0), (1,)), 3, 3, (8, 8)),
    "some share": (_space(_D, 2, (0, 1, 0, 2, 1), (1, 3)), 2, 3, (8, 8)),
    "concat skips nodes": (_space(_D, 4, (0, 1), (1,), concat=(5, 3)), 3, 3, (8, 8)),
    "one operation": (_space(("skip_connect",), 2, (0, 1, 2), (1,)), 4, 3, (8, 8)),
    "pools only": (_space(("avg_pool_3x3", "max_pool_3x3"), 2, (0, 1), (1,)), 4, 3, (8, 8)),
    "one cell": (_space(_D, 2, (0,), ()), 4, 3, (6, 6)),
    "one reduction cell": (_space(_D, 2, (0,), (0,)), 4, 3, (6, 6)),
}
each_case = pytest.mark.parametrize("case", _CASES)


class _Twins:
    def __init__(self, case: str) -> None:
        torch.manual_seed(len(case))
        self.space, channels, in_channels, size = _CASES[case]
        self.fast, self.plain = build_twins(self.space, channels, in_channels=in_channels, classes=4)
        self.x = torch.randn(3, in_channels, *size, dtype=torch.float64)
        self.y = torch.tensor([0, 3, 1])
        for alpha in self.fast.alphas:
            nn.init.normal_(alpha, std=2.0)
        self.alphas = [a.detach().clone().requires_grad_() for a in self.fast.alphas]
        self.gates = [torch.sigmoid(a) for a in self.alphas]


def _relative(found: Tensor | None, expected: Tensor | None) -> float:
    if expected is None or not expected.any():  # no path to the loss: nothing, or zeros
        return 0.0 if found is None else float(found.abs().max())
    assert found is not None
    assert found.shape == expected.shape
    return float((found - expected).detach().norm() / expected.detach().norm())


@each_case
def test_logits_and_all_gradients_are_those_of_the_plain_twin(case: str) -> None:
    twins = _Twins(case)
    ours, theirs = twins.fast(twins.x, sigmoid_gates(twins.fast)), twins.plain(twins.x, twins.gates)
    assert _relative(ours, theirs) < 1e-10
    F.cross_entropy(ours, twins.y).backward()
    F.cross_entropy(theirs, twins.y).backward()
    for mine, alpha in zip(twins.fast.alphas, twins.alphas, strict=True):
        assert _relative(mine.grad, alpha.grad) < 1e-8
    expected = {name: p.grad for name, p in twins.plain.named_parameters() if not name.startswith("alphas.")}
    found = reference_gradients(twins.fast, list(expected))
    assert set(found) == set(expected)
    scale = max(float(g.norm()) for g in expected.values() if g is not None)
    for name, gradient in expected.items():
        mine = found[name]
        if gradient is not None and float(gradient.norm()) < 1e-9 * scale:  # zero but for rounding
            assert mine is None or float(mine.norm()) < 1e-8 * scale, name
        else:
            assert _relative(mine, gradient) < 1e-8, name


@pytest.mark.parametrize("space", [_D, _O])
def test_every_parameter_receives_a_gradient(space: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    net = Supernet(_space(space, 3, (0, 1, 2), (1,)), channels=4, classes=3)
    F.cross_entropy(net(torch.randn(4, 3, 8, 8), sigmoid_gates(net)), torch.tensor([0, 1, 2, 0])).backward()
    without = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@each_case
def test_ablated_branches_are_full_passes_of_the_plain_twin(case: str) -> None:
    twins = _Twins(case)
    gates = [g.detach() for g in twins.gates]
    before = {k: v.clone() for k, v in twins.fast.state_dict().items()}
    with torch.no_grad():
        trunk = twins.fast.trunk(twins.x, gates, track=False, keep=True)
        for i in range(twins.space.searched_cells):
            replacement = torch.rand_like(gates[i])
            replaced = [replacement if k == i else g for k, g in enumerate(gates)]
            starts = [trunk.states[k] for k in twins.fast.branch_starts(i)]
            for other, expected in (
                (replacement, twins.plain(twins.x, replaced)),
                (None, twins.plain.ablated(twins.x, gates, i)),
            ):
                anew = twins.fast.branch(i, starts, gates, other)
                known = twins.fast.branch(i, starts, gates, other, precomputed=trunk.precomputed)
                assert _relative(anew, expected) < 1e-9
                assert torch.equal(known, anew)
    assert all(torch.equal(v, before[k]) for k, v in twins.fast.state_dict().items())


def test_removing_every_cell_leaves_the_classifiers_bias() -> None:
    twins = _Twins("one alpha for all")
    gates = sigmoid_gates(twins.fast)
    trunk = twins.fast.trunk(twins.x, gates, track=False)
    logits = twins.fast.branch(0, trunk.states[:2], gates, None)
    assert torch.equal(logits, twins.fast.classifier.bias.expand(3, 4))


@pytest.mark.parametrize("case", ["darts", "dartopti", "odd channels, odd size", "some share", "one channel"])
def test_running_statistics_move_as_pytorchs_own_and_only_when_tracked(case: str) -> None:
    twins = _Twins(case)
    before = {k: v.clone() for k, v in twins.fast.state_dict().items()}
    with torch.no_grad():
        twins.fast.trunk(twins.x, twins.gates, track=False)
        assert all(torch.equal(v, before[k]) for k, v in twins.fast.state_dict().items())
        for x in (twins.x, 2 * twins.x + 1):
            twins.fast.trunk(x, twins.gates, track=True)
            twins.plain(x, twins.gates)
        expected = Supernet(twins.space, channels=_CASES[case][1], in_channels=_CASES[case][2], classes=4).double()
        load_plain(expected, twins.plain)
        moved = 0
        wanted = expected.state_dict()
        for name, value in twins.fast.state_dict().items():
            if "running" in name:
                torch.testing.assert_close(value, wanted[name], rtol=1e-10, atol=1e-12, msg=name)
                moved += not torch.equal(value, before[name])
        assert moved == sum("running" in name for name in before)

        twins.fast.eval()
        twins.plain.eval()
        assert _relative(twins.fast(twins.x, sigmoid_gates(twins.fast)), twins.plain(twins.x, twins.gates)) < 1e-10
        after = {k: v.clone() for k, v in twins.fast.state_dict().items()}
        twins.fast(twins.x, sigmoid_gates(twins.fast))
        assert all(torch.equal(v, after[k]) for k, v in twins.fast.state_dict().items())


def test_evaluation_looks_at_each_image_on_its_own() -> None:
    twins = _Twins("dartopti")
    twins.fast(twins.x, sigmoid_gates(twins.fast))
    twins.fast.eval()
    with torch.no_grad():
        together = twins.fast(twins.x, sigmoid_gates(twins.fast))
        torch.testing.assert_close(twins.fast(twins.x[:1], sigmoid_gates(twins.fast)), together[:1])


@pytest.mark.parametrize("seed", range(4))
def test_gates_of_zero_and_one_make_the_discrete_network(seed: int) -> None:
    """Without pools, whose batch norm the discrete network does not have."""
    draw = random.Random(seed)
    torch.manual_seed(seed)
    operations = tuple(o for o in DARTOPTI_OPERATIONS if "pool" not in o)
    space = _space(operations, 3, (0, 1, 2, 3), (1, 2), concat=(2, 3, 4))
    rows = {edge: row for row, edge in enumerate(space.edges)}
    gates, cells = [], []
    for position in range(space.cells):
        edges = [
            Edge(draw.choice(operations), source, target)
            for target in range(2, 5)
            for source in sorted(draw.sample(range(target), 2))
        ]
        cells.append(CellGenotype(tuple(edges), space.concat, position in space.reductions))
        gate = torch.zeros(len(space.edges), len(operations), dtype=torch.float64)
        for edge in edges:
            gate[rows[edge.source, edge.target], operations.index(edge.operation)] = 1
        gates.append(gate)
    genotype = Genotype(tuple(cells))
    fast, plain = build_twins(space, 4, classes=5)

    network = Network(genotype, channels=4, classes=5).double()
    ours = network.state_dict()
    inherited = {name: value for name, value in inherited_weights(plain, genotype).items() if name in ours}
    left = network.load_state_dict(inherited, strict=False)
    assert all(".norm" in name and name.rpartition(".")[2] in ("weight", "bias") for name in left.missing_keys)

    x = torch.randn(3, 3, 12, 12, dtype=torch.float64)
    ours = fast.trunk(x, gates, track=False).logits
    network.train()
    assert _relative(ours, network(x)) < 1e-11


def test_the_imagenet_stem_reduces_before_the_first_cell() -> None:
    net = Supernet(_space(_D, 2, (0, 1), (1,)), channels=4, classes=3, stem="imagenet")
    trunk = net.trunk(torch.randn(2, 3, 32, 32), sigmoid_gates(net), track=False)
    assert [tuple(s.shape[2:]) for s in trunk.states] == [(16, 16), (8, 8), (8, 8), (4, 4)]
    assert trunk.logits.shape == (2, 3)


def test_half_precision_stays_close_and_alphas_keep_their_own() -> None:
    torch.manual_seed(0)
    net = Supernet(_space(_D, 2, (0, 1), (1,)), channels=8, classes=4)
    x, y = torch.randn(8, 3, 8, 8), torch.arange(8) % 4

    def autocast() -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16)

    exact, rough = (
        sigmoid_step(net, x, y, zero_one_weight=0.0, **options)  # type: ignore[arg-type]
        for options in ({}, {"autocast": autocast})
    )
    assert abs(float(rough.cross_entropy - exact.cross_entropy)) < 0.05 * float(exact.cross_entropy)
    for a, b in zip(rough.gradients, exact.gradients, strict=True):
        assert a.dtype == torch.float32
        assert torch.isfinite(a).all()
        assert _relative(a, b) < 0.3
    with autocast():
        loss = F.cross_entropy(net(x, sigmoid_gates(net)).float(), y)
    loss.backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in net.parameters())
    assert all(bool(torch.isfinite(p.grad).all()) for p in net.parameters() if p.grad is not None)


def test_the_same_seed_gives_the_same_bits() -> None:
    def run() -> list[Tensor]:
        torch.manual_seed(5)
        net = Supernet(_space(_D, 2, (0, 1), (1,)), channels=8)
        F.cross_entropy(net(torch.randn(4, 3, 8, 8), sigmoid_gates(net)), torch.arange(4)).backward()
        return [p.grad for p in net.parameters() if p.grad is not None]

    assert all(torch.equal(a, b) for a, b in zip(run(), run(), strict=True))


def test_frozen_weights_thaw_as_they_were_whatever_happens() -> None:
    net = Supernet(_space(_D, 1, (0,), ()), channels=2)
    net.classifier.bias.requires_grad_(False)
    before = {name: p.requires_grad for name, p in net.named_parameters()}

    def fail() -> None:
        with net.weights_frozen():
            assert not any(p.requires_grad for p in net.weight_parameters())
            assert all(p.requires_grad for p in net.architecture_parameters())
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert {name: p.requires_grad for name, p in net.named_parameters()} == before


def test_a_failure_in_the_stem_leaves_its_statistics_tracked() -> None:
    net = Supernet(_space(_D, 1, (0,), ()), channels=2)
    with pytest.raises(RuntimeError):
        net.trunk(torch.randn(2, 7, 8, 8), sigmoid_gates(net), track=False)  # seven bands where it takes three
    assert all(m.momentum == 0.1 for m in net.modules() if isinstance(m, nn.BatchNorm2d | BatchStatistics))
    assert not any(m.frozen for m in net.modules() if isinstance(m, BatchStatistics))


@pytest.mark.parametrize("name", ["darts", "dartopti"])
@pytest.mark.parametrize("nodes", [1, 8])
def test_the_smallest_and_the_largest_cell_can_be_built(name: str, nodes: int) -> None:
    space = build_space(name, cells=3, nodes=nodes)
    with torch.device("meta"):
        net = Supernet(space, channels=16)
        logits = net.trunk(torch.zeros(2, 3, 32, 32), sigmoid_gates(net), track=False).logits
    assert logits.shape == (2, 10)
    assert all(a.shape == (len(space.edges), len(space.operations)) for a in net.architecture_parameters())


def test_gates_start_near_one_half_and_not_equal() -> None:
    gates = torch.stack(sigmoid_gates(Supernet(_space(_D, 4, (0, 1), ()), channels=1))).detach()
    assert float((gates - 0.5).abs().max()) < 0.01
    assert gates.unique().numel() > gates.numel() // 2


def test_weights_and_alphas_part_the_parameters() -> None:
    net = Supernet(_space(_D, 2, (0, 1, 0), (1,)), channels=2)
    weights, alphas = net.weight_parameters(), net.architecture_parameters()
    assert len(alphas) == 2
    assert {id(p) for p in weights} | {id(p) for p in alphas} == {id(p) for p in net.parameters()}
    assert not {id(p) for p in weights} & {id(p) for p in alphas}
    assert net.positions(0) == (0, 2)
    assert net.positions(1) == (1,)


def test_an_unknown_stem_is_named() -> None:
    with pytest.raises(SettingsError, match="unknown stem 'cifr'; did you mean 'cifar'"):
        Supernet(_space(_D, 1, (0,), ()), channels=2, stem="cifr")


def test_the_twins_are_different_code() -> None:
    """The comparison means something only while the cells of the two share no module of the package."""
    fast, plain = build_twins(_space(_O, 2, (0,), (0,)), 2)
    shared = {type(m) for m in fast.cells.modules()} & {type(m) for m in plain.cells.modules()}
    assert all(kind.__module__.startswith("torch.") or kind is DepthwiseConv for kind in shared)


def test_computing_cells_twice_moves_statistics_once_and_keeps_little() -> None:
    twins = _Twins("dartopti")
    before = {k: v.clone() for k, v in twins.fast.state_dict().items()}
    found = []
    for recompute in (False, True):
        twins.fast.load_state_dict(before)
        twins.fast.recompute = recompute
        kept: dict[int, int] = {}

        def pack(t: Tensor, kept: dict[int, int] = kept) -> Tensor:
            kept[t.data_ptr()] = t.numel()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            loss = F.cross_entropy(twins.fast(twins.x, [g.detach() for g in sigmoid_gates(twins.fast)]), twins.y)
        gradients = torch.autograd.grad(loss, twins.fast.weight_parameters())
        found.append((gradients, list(twins.fast.buffers()), sum(kept.values())))
    (once, buffers, much), (twice, same, little) = found
    assert all(torch.equal(a, b) for a, b in zip(once, twice, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(buffers, same, strict=True))
    assert little < much / 4


def _maps() -> list[Tensor]:
    """The feature maps that Python objects hold."""
    gc.collect()
    return [t for t in gc.get_objects() if type(t) is Tensor and t.ndim == 4]


@pytest.mark.parametrize("frozen", [False, True])
def test_between_the_passes_nothing_is_held_behind_autograds_back(frozen: bool) -> None:
    """What the forward pass leaves must lie with autograd, which recomputation and offloading can get at."""
    twins = _Twins("dartopti")
    twins.fast.requires_grad_(not frozen)
    twins.fast.alphas.requires_grad_(True)
    with torch.no_grad():
        twins.fast(twins.x, sigmoid_gates(twins.fast))  # what is computed once in a process is there now
    before = _maps()
    known = {id(t) for t in before}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.shape, lambda t: torch.zeros(t)):
        logits = twins.fast(twins.x, sigmoid_gates(twins.fast))
        held = [t.shape for t in _maps() if id(t) not in known]
    assert logits.requires_grad
    assert held == []


def test_nodes_that_reach_no_output_have_no_weights() -> None:
    """DistributedDataParallel waits for a gradient of every parameter."""
    net = Supernet(_space(_D, 4, (0, 1), (1,), concat=(2,)), channels=3, classes=2)
    net(torch.randn(2, 3, 8, 8), [g.detach() for g in sigmoid_gates(net)]).sum().backward()
    assert all(weight.grad is not None for weight in net.weight_parameters())
    every = Supernet(_space(_D, 4, (0, 1), (1,), concat=(5,)), channels=3, classes=2)
    every(torch.randn(2, 3, 8, 8), [g.detach() for g in sigmoid_gates(every)]).sum().backward()
    assert all(weight.grad is not None for weight in every.weight_parameters())
