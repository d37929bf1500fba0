import pytest

from pipelines.cli import Failure
from pipelines.progress import ProgressLines


def test_lines_show_steps_and_validations(capsys, local_ray):
    with ProgressLines() as progress:
        progress.messages.put({"kind": "start", "step": 20, "steps": 40, "best": 0.5})
        progress.messages.put({"kind": "step", "step": 40, "loss": 0.5, "examples/s": 1234.0})
        metrics = {"step": 40, "validation_loss": 0.4, "validation_accuracy": 0.75}
        progress.messages.put({"kind": "validation", **metrics})
    assert capsys.readouterr().out.splitlines() == [
        "going on after step 20",
        "step 40/40  loss 0.5000  1,234 examples/s",
        "validation after step 40: loss 0.4000 (best so far), accuracy 75.0%",
    ]


@pytest.mark.parametrize("hashes", [("a", "a"), ("a", "b")])
def test_replicas_that_differ_are_a_failure(hashes, local_ray):
    def listen():
        with ProgressLines() as progress:
            for rank, value in enumerate(hashes):
                message = {"kind": "replica", "step": 7, "rank": rank, "hash": value}
                progress.messages.put(message)

    if len(set(hashes)) == 1:
        listen()
    else:
        with pytest.raises(Failure, match="differ after step 7"):
            listen()
