"""How many workers a cluster gets, and what `--ray` refuses before anything starts."""

from importlib.util import find_spec

import pytest

from thinkedit.cli.arguments import normalise
from thinkedit.engines.ray_cluster import Division, Node, divide
from thinkedit.errors import UsageError


@pytest.mark.parametrize(
    ("nodes", "gpus", "wanted", "division"),
    [
        ([Node(16, 8)], 1, None, Division(8, 1, 1)),
        ([Node(16, 8), Node(16, 8)], 4, None, Division(4, 1, 4)),
        ([Node(16, 8)], 1, 3, Division(3, 1, 1)),
        ([Node(2, 0)], 0, None, Division(1, 2, 0)),
        ([Node(16, 0), Node(6, 0)], 0, None, Division(5, 4, 0)),
        ([Node(2, 0)], 0, 2, Division(2, 1, 0)),
        ([Node(16, 0), Node(6, 0)], 0, 2, Division(2, 8, 0)),
        ([Node(1, 0), Node(1, 0)], 0, None, Division(2, 1, 0)),
    ],
)
def test_what_each_worker_gets(nodes, gpus, wanted, division):
    assert divide(nodes, gpus, wanted, may_grow=False) == division


def test_no_room_is_refused_where_none_can_be_added():
    with pytest.raises(UsageError, match="room for 2 workers with a CPU core each, not for 3"):
        divide([Node(2, 0)], 0, 3, may_grow=False)
    with pytest.raises(UsageError, match="room for 0 workers with 2 GPUs each"):
        divide([Node(8, 1)], 2, None, may_grow=True)
    assert divide([Node(2, 0)], 0, 3, may_grow=True) == Division(3, 1, 0)


def test_the_address_may_be_left_out():
    assert normalise(["run", "--ray", "tiny"])[0] == ["run", "--ray", "local", "tiny"]
    assert normalise(["run", "--ray", "auto", "tiny"])[0] == ["run", "--ray", "auto", "tiny"]
    assert normalise(["run", "--ray", "head:6379"])[0] == ["run", "--ray", "head:6379"]
    assert normalise(["run", "--ray"])[0] == ["run", "--ray", "local"]
    assert normalise(["run", "--ray=auto"])[0] == ["run", "--ray=auto"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--ray-workers", "2"], "add --ray"),
        (["--ray", "--base-url", "http://127.0.0.1:9/v1"], "leave --ray out"),
        (["--ray", "--device", "cuda:1"], "gives each worker its GPU"),
    ],
)
def test_options_that_do_not_go_together(thinkedit, tmp_path, arguments, words):
    done = thinkedit("generate", "--limit", "1", "--out", tmp_path / "run", *arguments)
    assert done.code == 2
    assert words in done.error


@pytest.mark.skipif(find_spec("ray") is not None, reason="it is installed")
@pytest.mark.parametrize("command", ["run", "generate"])
def test_ray_that_is_not_installed_says_how_to_get_it(thinkedit, tmp_path, command):
    done = thinkedit(command, "--ray", "--out", tmp_path / "run")
    assert done.code == 1
    assert 'pip install "thinkedit[ray]"' in done.error
    assert not (tmp_path / "run").exists()
