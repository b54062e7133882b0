import gc

import pytest

from sd4match_lib.backbones.loading import importing


@pytest.fixture(autouse=True)
def thawed():
    yield
    gc.unfreeze()
    gc.enable()


def test_what_a_library_makes_is_kept_from_the_collector_once():
    gc.unfreeze()
    with importing("no_such_library"):
        assert not gc.isenabled()
    assert gc.isenabled() and gc.get_freeze_count() > 0
    gc.unfreeze()
    with importing("gc"):  # already here: there is nothing to keep away
        assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_a_library_that_is_missing_leaves_the_collector_on():
    with pytest.raises(ImportError), importing("no_such_library"):
        import no_such_library  # noqa: F401
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    with importing("no_such_library"):
        pass
    assert not gc.isenabled()
