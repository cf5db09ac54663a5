import pytest

from ddarts.errors import RunError
from ddarts.genotype.genotype import Edge
from ddarts.reporting.charts import gate_charts, stage_charts

OPS = ("skip_connect", "sep_conv_3x3")
EDGES = ((0, 2), (1, 2))


def gates(*values: float) -> list:
    a, b, c, d = values
    return [[[a, b], [c, d]]]


def test_a_search_gets_a_chart_for_each_thing_that_was_measured() -> None:
    records = [
        {
            "epoch": e,
            "search_loss": 2.0 / e,
            "train_loss": 1.0 / e,
            "search_accuracy": 0.5,
            "marginal": [-0.1, 0.2],
            "parameter_free": [0.5, 1.0],
            "margin": [0.1, 0.0],
        }
        for e in (1, 2)
    ]
    charts = {chart.title: chart for chart in stage_charts(records, "search")}
    assert list(charts) == [
        "Search: loss",
        "Search: accuracy",
        "Marginal contribution of each cell",
        "Share of operations without weights",
        "Lead of the gates",
    ]
    assert charts["Search: loss"].header == ("epoch", "search half", "training half")
    assert charts["Search: loss"].rows == (("1", "2", "1"), ("2", "1", "0.5"))
    assert charts["Search: accuracy"].rows[0] == ("1", "50")
    assert charts["Share of operations without weights"].rows[1] == ("2", "50", "100")
    assert "At the end: cell 0 -0.1; cell 1 0.2." in charts["Marginal contribution of each cell"].svg


def test_very_many_cells_are_told_apart_by_pointing() -> None:
    (few,) = stage_charts([{"epoch": e, "margin": [0.1] * 12} for e in (1, 2)], "search")
    (many,) = stage_charts([{"epoch": e, "margin": [0.1] * 13} for e in (1, 2)], "search")
    assert ">cell 11</text>" in few.svg
    assert ">cell 11</text>" not in many.svg
    assert "<title>cell 11</title>" in many.svg
    assert many.note.endswith("Point at a line to read which cell it is.")


def test_what_was_not_measured_gets_no_chart() -> None:
    assert stage_charts([], "search") == []
    assert stage_charts([{"epoch": 1, "marginal": None, "search_loss": None}], "search") == []
    assert stage_charts([{"epoch": e, "marginal": [None, None]} for e in (1, 2)], "search") == []
    assert [c.title for c in stage_charts([{"epoch": 1, "train_loss": 1.0}], "train")] == ["Training: loss"]


def test_a_loss_that_was_not_finite_is_a_gap_in_chart_and_table() -> None:
    (chart,) = stage_charts([{"epoch": e, "train_loss": None if e == 2 else 1.0} for e in (1, 2, 3)], "train")
    assert [row[1] for row in chart.rows] == ["1", "-", "1"]


def test_long_tables_are_thinned_and_keep_the_last_epoch() -> None:
    (chart,) = stage_charts([{"epoch": e, "train_loss": 1.0} for e in range(1, 601)], "train")
    assert len(chart.rows) <= 14
    assert (chart.rows[0][0], chart.rows[-1][0]) == ("1", "600")


def test_each_searched_cell_gets_a_chart_of_its_gates() -> None:
    records = [{"epoch": 1, "gates": gates(0.5, 0.5, 0.5, 0.5)}, {"epoch": 2, "gates": gates(0.1, 0.9, 0.3, 0.8)}]
    (chart,) = gate_charts(records, OPS, EDGES, [frozenset({Edge("sep_conv_3x3", 0, 2)})])
    assert chart.title == "Cell 0"
    assert chart.rows == (
        ("sep_conv_3x3, c_{k-2} to node 0", "yes", "0.5", "0.9"),
        ("sep_conv_3x3, c_{k-1} to node 0", "", "0.5", "0.8"),
        ("skip_connect, c_{k-1} to node 0", "", "0.5", "0.3"),
        ("skip_connect, c_{k-2} to node 0", "", "0.5", "0.1"),
    )
    assert "<title>skip_connect, c_{k-1} to node 0</title>" in chart.svg


def test_gates_without_a_genotype_are_drawn_too() -> None:
    (chart,) = gate_charts([{"epoch": 1, "gates": gates(0.5, 0.5, 0.5, 0.5)}], OPS, EDGES, [])
    assert "chosen operations" not in chart.note


def test_only_the_largest_of_very_many_gates_are_drawn() -> None:
    cells = [[[0.5, 0.4]] * 30 for _ in range(30)]
    edges = [(s, t) for t in range(2, 10) for s in range(t)][:30]
    charts = gate_charts([{"epoch": epoch, "gates": cells} for epoch in (1, 2)], OPS, edges, [])
    assert len(charts) == 30
    assert "The 40 largest of 60 are drawn." in charts[0].note


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"epoch": 1, "search_loss": "low"}, "'search_loss' holds 'low', expected a number; the file is damaged"),
        ({"epoch": 1, "search_loss": True}, "'search_loss' holds 'True', expected a number"),
        ({"epoch": 1, "search_loss": 10**400}, "'search_loss' holds a number of 401 digits; the file is damaged"),
        ({"search_loss": 1.0}, "a record has no epoch; the file is damaged"),
        ({"epoch": "one", "search_loss": 1.0}, "'epoch' holds 'one', expected a number"),
        ({"epoch": 1, "marginal": 3}, "'marginal' holds '3', expected a list of cells"),
        ({"epoch": 1, "margin": [None, {}]}, "'margin' holds '{}', expected a number"),
    ],
)
def test_damaged_metrics_are_an_error_of_one_line(record: dict, message: str) -> None:
    with pytest.raises(RunError) as caught:
        stage_charts([record], "search")
    assert str(caught.value).startswith(f"metrics.jsonl: {message}")


def test_a_number_of_cells_that_changes_is_an_error() -> None:
    records = [{"epoch": 1, "margin": [0.1]}, {"epoch": 2, "margin": [0.1, 0.2]}]
    with pytest.raises(RunError, match="'margin' has 1 cells at epoch 1, later 2"):
        stage_charts(records, "search")


@pytest.mark.parametrize("damaged", [[[]], [[[0.5, 0.5]]], [[[0.5], [0.5]]], [3]])
def test_gates_that_do_not_fit_the_space_are_an_error(damaged: list) -> None:
    with pytest.raises(RunError, match=r"gates of cell 0 at epoch 1 are not 2 edges of 2 operations"):
        gate_charts([{"epoch": 1, "gates": damaged}], OPS, EDGES, [])


def test_one_epoch_gives_numbers_and_no_chart() -> None:
    (chart,) = stage_charts([{"epoch": 1, "train_loss": 1.0}], "train")
    assert chart.svg == ""
    assert chart.rows == (("1", "1"),)
    (gates,) = gate_charts([{"epoch": 1, "gates": [[[0.5, 0.7], [0.6, 0.4]]]}], OPS, EDGES, [])
    assert (gates.svg, gates.header[-1]) == ("", "gate")
    assert [row[-1] for row in gates.rows] == ["0.7", "0.6", "0.5", "0.4"]
