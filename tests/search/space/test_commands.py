"""What to type for tasks whose network is built by a function, and for those where it is a Python object."""

from dataclasses import replace

from search.space.commands import export_command, resume_call, resume_command, run_command
from search.space.effort import Recipe
from search.space.task import CustomNetwork, find_task

DIGITS = find_task("digits")
NETWORK = CustomNetwork(
    path="nets:build", folder="", max_depth=1, max_width=8, fingerprint="0", weights_sha256="0", checkpoint="/net.pt"
)
BUILT = DIGITS.with_network(NETWORK).with_training("none")
GIVEN = DIGITS.with_network(replace(NETWORK, path="nets.Net", checkpoint=None)).with_training("none")


def test_what_a_function_builds_is_searched_and_resumed_by_commands() -> None:
    assert run_command(DIGITS) == "search run --dataset digits"
    assert run_command(BUILT, hardware="hybrid-22nm", effort="quick", max_area=0.5) == (
        "search run --dataset digits --network nets:build --checkpoint /net.pt --train none --hardware hybrid-22nm "
        "--effort quick --max-area 0.5"
    )
    assert resume_command(BUILT, "mine") == "search resume mine"
    assert resume_call(BUILT, "mine") == "search.resume('mine')"
    assert export_command(BUILT, "0123") == "search export 0123 --out DIR"


def test_a_python_object_is_given_to_calls() -> None:
    assert run_command(GIVEN) == "search.run(model=..., dataset='digits', train='none') in Python"
    tuned = replace(GIVEN, metric="balanced-accuracy", mean=(0.5,)).with_training("finetune")
    assert run_command(tuned.with_recipe(Recipe(epochs=2.0)), hardware="hybrid-22nm", max_area=0.5) == (
        "search.run(model=..., dataset='digits', train='finetune', task=search.TaskRequest("
        "metric='balanced-accuracy', mean=(0.5,), epochs=2.0), hardware='hybrid-22nm', max_area=0.5) in Python"
    )
    assert resume_command(GIVEN, "mine") == "search.resume('mine', model=...) in Python"
    assert resume_call(GIVEN, "mine") == "search.resume('mine', model=...)"
    assert export_command(GIVEN, "0123") is None
