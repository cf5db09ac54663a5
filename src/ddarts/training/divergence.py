"""What to say when a loss, weight or gate is not finite: where, why it may be, and what is kept."""

from __future__ import annotations

from ddarts.config.schema import SearchOptions, TrainOptions
from ddarts.errors import DivergedError, RunError
from ddarts.runs.folder import RunFolder


def divergence(
    what: str,
    step: int,
    steps_per_epoch: int,
    *,
    stage: str,
    options: SearchOptions | TrainOptions,
    precision: str,
    run: RunFolder,
) -> DivergedError:
    """Return the error to raise.

    Args:
        what: what is not finite, such as "the loss is nan".
        step: the step at which it came, from 1, counted since the start.
        steps_per_epoch: steps of an epoch.
        stage: "search" or "train".
        options: settings of the stage.
        precision: arithmetic of the network.
        run: the run, whose last good checkpoint is named.
    """
    good = "no checkpoint was written before"
    try:
        checkpoint = run.load_checkpoint(stage)
    except RunError:
        checkpoint = None
    if checkpoint is not None:
        at = (checkpoint["epoch"] - 1) * steps_per_epoch + checkpoint["step"]
        good = f"the checkpoint after step {at} (epoch {max(at - 1, 0) // steps_per_epoch + 1}) is kept in {run.path}"
    # far from any useful rate, a fourth of it is as useless
    better = options.lr / 4 if options.lr <= 1 else type(options).model_fields["lr"].default
    causes = [f"a learning rate that is too high (lr = {options.lr:g}, try {better:.2g})"]
    if precision != "float32":
        causes.append(f"too little range or precision ({precision}, try float32)")
    if options.clip > 5:
        causes.append(f"gradients hardly clipped (clip = {options.clip:g}, try 5)")
    epoch = (step - 1) // steps_per_epoch + 1
    return DivergedError(
        f"{what} at epoch {epoch}, step {step}; likely causes: {'; '.join(causes)}; {good}; "
        f"{stage} again in a new run with other settings"
    )
