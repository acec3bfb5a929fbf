"""A person publishes a partition in spite of its failures: only with a reason, only that very data, and on record."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gossamer import acceptance
from gossamer.acceptance import AcceptanceError, accept
from gossamer.errors import LakeError, PublicationRefusedError
from gossamer.lake import INCOMPLETE, Lake, stage
from gossamer.publish.tables import history, publish
from gossamer.source import Source
from tests.publications import declare, failed, finish, finish_and_publish, passed, product, products

KEY = "2026-11-20"
FAILURE = "2 of 300 rows cost less than nothing"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


@pytest.fixture
def shop(tmp_path: Path) -> Source:
    return declare(tmp_path / "sources")


def bad(lake: Lake, shop: Source, layer: str = "clean", check: str = "expectations_critical") -> None:
    """A finished partition with one failed blocking check."""
    others = {"clean": [passed("record_key")], "enriched": [passed("rows_kept")]}.get(layer, [])
    finish(lake, shop, KEY, products([product("a")]), {layer: [*others, failed(check, FAILURE)]})


def test_what_was_accepted_is_published_and_the_publication_says_who_and_why(lake: Lake, shop: Source) -> None:
    bad(lake, shop)
    with pytest.raises(PublicationRefusedError, match=rf"{FAILURE}(.|\n)*gossamer accept shop '{KEY}' --reason"):
        publish(lake, shop, KEY)
    accepted = accept(lake, "shop", KEY, reason=" A sale,\n really ", by="ann")
    assert accepted.failures == (f"clean/shop: expectations_critical: {FAILURE}",) and not accepted.in_history
    published = publish(lake, shop, KEY)
    assert published.accepted == accepted and (accepted.by, accepted.reason) == ("ann", "A sale, really")
    assert [entry.accepted for entry in history(lake, "shop")] == ["A sale, really"]


def test_what_is_made_again_is_judged_again(lake: Lake, shop: Source) -> None:
    bad(lake, shop)
    accept(lake, "shop", KEY, reason="a sale", by="ann")
    bad(lake, shop)
    with pytest.raises(PublicationRefusedError, match=FAILURE):
        publish(lake, shop, KEY)
    assert [one.reason for one in acceptance.read(lake, "shop", KEY)] == ["a sale"], "the record stays"


@pytest.mark.parametrize("layer", ["raw", "clean", "enriched"])
def test_what_was_replaced_since_it_was_looked_at_is_not_accepted(lake: Lake, shop: Source, layer: str) -> None:
    bad(lake, shop)
    versions = {name: lake.current(name, "shop", KEY).version for name in acceptance.LAYERS}
    before = lake.current(layer, "shop", KEY)
    with stage(products([product("b")])) as staged:  # a crawl, or another's `recheck`, slips in
        lake.commit(layer, "shop", KEY, staged, checks=before.checks, inputs=before.inputs)
    with pytest.raises(AcceptanceError, match=f"{layer}/shop, partition {KEY}, was replaced since you looked"):
        accept(lake, "shop", KEY, reason="known", by="ann", versions=versions)
    assert acceptance.read(lake, "shop", KEY) == []
    versions[layer] = lake.current(layer, "shop", KEY).version
    assert accept(lake, "shop", KEY, reason="known", by="ann", versions=versions).failures


@pytest.mark.parametrize(("layer", "check"), [("raw", "books_closed"), ("enriched", "joins_matched")])
def test_failures_of_every_layer_can_be_accepted(lake: Lake, shop: Source, layer: str, check: str) -> None:
    bad(lake, shop, layer, check)
    accept(lake, "shop", KEY, reason="known", by="ann")
    assert publish(lake, shop, KEY).rows == 1


def test_a_check_that_was_never_made_cannot_be_accepted(lake: Lake, shop: Source) -> None:
    finish(lake, shop, KEY, products([product("a")]), {"clean": [failed("expectations_critical", FAILURE)]})
    accept(lake, "shop", KEY, reason="known", by="ann")
    with pytest.raises(PublicationRefusedError, match="record_key was never evaluated"):
        publish(lake, shop, KEY)


def test_layers_that_do_not_belong_together_cannot_be_accepted(lake: Lake, shop: Source) -> None:
    bad(lake, shop)
    accept(lake, "shop", KEY, reason="known", by="ann")
    with stage(products([product("b")])) as staged:
        lake.commit("raw", "shop", KEY, staged, checks=[passed("books_closed")])
    with pytest.raises(PublicationRefusedError, match="made from another raw/shop"):
        publish(lake, shop, KEY)


def test_good_data_no_data_and_no_reason_are_told(lake: Lake, shop: Source) -> None:
    with pytest.raises(AcceptanceError, match=f"shop, partition {KEY}: there is no data to accept"):
        accept(lake, "shop", KEY, reason="known", by="ann")
    finish_and_publish(lake, shop, KEY, products([product("a")]))
    with pytest.raises(AcceptanceError, match="no blocking check has failed"):
        accept(lake, "shop", KEY, reason="known", by="ann")
    bad(lake, shop)
    with pytest.raises(AcceptanceError, match="say why"):
        accept(lake, "shop", KEY, reason=" ", by="ann")
    assert acceptance.read(lake, "shop", KEY) == []


def test_two_who_accept_at_once_are_both_on_record(lake: Lake, shop: Source) -> None:
    bad(lake, shop)
    with ThreadPoolExecutor(4) as pool:
        names = [f"user {number}" for number in range(8)]
        list(pool.map(lambda name: accept(lake, "shop", KEY, reason="known", by=name), names))
    assert sorted(one.by for one in acceptance.read(lake, "shop", KEY)) == names


def test_a_record_that_is_broken_is_named(lake: Lake, shop: Source) -> None:
    bad(lake, shop)
    lake.put(f"acceptances/shop/{KEY}/000001.json", b"{}")
    with pytest.raises(LakeError, match=r"000001\.json is no acceptance"):
        publish(lake, shop, KEY)


def test_an_incomplete_crawl_can_be_taken_as_it_is_and_the_one_before_it_is_not_mixed_in(
    lake: Lake, shop: Source
) -> None:
    finish_and_publish(lake, shop, KEY, products([product("old")]))
    books = {"generation": 2}
    with stage(products([product("new")])) as staged:
        verdict = [failed("books_closed", "30 of 100 pages are missing")]
        lake.commit(INCOMPLETE, "shop", KEY, staged, checks=verdict, crawl_id=f"shop/{KEY}/2", notes={"books": books})
    with pytest.raises(AcceptanceError, match="was replaced since you looked"):
        acceptance.adopt(lake, "shop", KEY, "run-1", version="another")
    assert lake.scan("raw", "shop", KEY).collect()["sku"].to_list() == ["old"]
    adopted = acceptance.adopt(lake, "shop", KEY, "run-1", version=staged.version)
    assert adopted and (adopted.crawl_id, adopted.run_id, adopted.notes) == (f"shop/{KEY}/2", "run-1", {"books": books})
    assert lake.scan("raw", "shop", KEY).collect()["sku"].to_list() == ["new"]
    assert lake.manifest(INCOMPLETE, "shop", KEY) is None
    assert acceptance.adopt(lake, "shop", KEY) is None, "once"
    with pytest.raises(PublicationRefusedError, match="30 of 100 pages are missing"):
        publish(lake, shop, KEY)
