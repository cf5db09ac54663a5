from ddarts.genotype.genotype import CellGenotype, Edge
from ddarts.reporting.formatting import describe_cell
from ddarts.reporting.names import StateText


def test_a_cell_has_a_line_for_each_node_and_one_for_its_output() -> None:
    normal = CellGenotype((Edge("sep_conv_3x3", 1, 2), Edge("max_pool_3x3", 0, 2), Edge("skip_connect", 2, 3)), (2, 3))
    assert describe_cell(normal) == (
        "  node 0 = sep_conv_3x3(c_{k-1}) + max_pool_3x3(c_{k-2})\n"
        "  node 1 = skip_connect(node 0)\n"
        "  output = concat(node 0, node 1)"
    )


def test_equal_signs_stand_under_each_other_and_left_out_nodes_are_not_listed() -> None:
    cell = CellGenotype((Edge("skip_connect", 0, 11),), (11,))
    assert describe_cell(cell).splitlines() == ["  node 9 = skip_connect(c_{k-2})", "  output = node 9"]


def test_a_text_that_names_states_is_escaped_on_a_page_and_has_its_subscripts() -> None:
    text = StateText("<b>c_{k-2}</b> & c_{x}")
    assert str(text) == "<b>c_{k-2}</b> & c_{x}"
    assert text.__html__() == "&lt;b&gt;c<sub>k\N{MINUS SIGN}2</sub>&lt;/b&gt; &amp; c_{x}"
