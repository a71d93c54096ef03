import pytest
import torch

from presel_lightning.functional.threads import map_blocks, single_threaded


def test_single_threaded_restores_threads_after_an_error() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(RuntimeError), single_threaded() as outside:
            assert (outside, torch.get_num_threads()) == (2, 1)
            raise RuntimeError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 3])
def test_map_blocks_covers_the_range_in_order(threads: int) -> None:
    with single_threaded():
        blocks = map_blocks(lambda start, stop: (start, stop), 10, 4, threads)
    assert blocks == [(0, 4), (4, 8), (8, 10)]


def test_map_blocks_uses_one_torch_thread_per_worker() -> None:
    with single_threaded():
        counts = map_blocks(lambda start, stop: torch.get_num_threads(), 8, 1, 2)
    assert counts == [1] * 8
