import torch

from sd4match_lib.features.cache import DiskCache, MemoryCache


def entry(value, size=10):
    return {"mean": torch.full((size,), float(value)), "half": torch.full((2, 3), value, dtype=torch.float16)}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_entries_are_found_by_key_and_settings(tmp_path):
    cache = DiskCache(tmp_path, {"weights": "abc", "hw": (64, 64)})
    assert cache.get("cat/one") is None
    cache.put("cat/one", entry(1))
    assert same(cache.get("cat/one"), entry(1))
    assert same(DiskCache(tmp_path, {"weights": "abc", "hw": (64, 64)}).get("cat/one"), entry(1))
    assert DiskCache(tmp_path, {"weights": "abd", "hw": (64, 64)}).get("cat/one") is None
    assert cache.get("cat/two") is None


def test_memory_stays_below_its_limit_and_nothing_is_lost(tmp_path):
    size = 10 * 4 + 6 * 2
    cache = MemoryCache(3 * size, DiskCache(tmp_path, {}))
    for index in range(8):
        cache.put(f"image {index}", entry(index))
        assert cache.used <= 3 * size
    assert all(same(cache.get(f"image {index}"), entry(index)) for index in range(8))
    assert cache.used <= 3 * size
    assert cache.get("image 9") is None


def test_the_least_recently_used_entry_leaves_first(tmp_path):
    disk = DiskCache(tmp_path, {})
    cache = MemoryCache(2 * 52, disk)
    cache.put("a", entry(1))
    cache.put("b", entry(2))
    cache.get("a")
    cache.put("c", entry(3))
    assert disk.path("b").is_file() and not disk.path("a").is_file()


def test_an_entry_does_not_hold_on_to_the_batch_it_came_from(tmp_path):
    cache = MemoryCache(10**6, DiskCache(tmp_path, {}))
    batch = torch.zeros(100, 10)
    cache.put("row", {"map": batch[3]})
    batch[3] = 7
    kept = cache.get("row")["map"]
    assert kept.untyped_storage().nbytes() == 40 and kept.sum() == 0
