"""A baseline fits every host that it was made of, and is the largest that does."""

import random

import pytest

from schemas.compat import Verdict, baseline, check_compat, matrix
from schemas.compat import cpuid_words as words
from schemas.compat.baseline import MAX_HOSTS
from schemas.compat.baseline_cpuid import ROWS
from schemas.compat.cpuid_view import CpuidView
from schemas.compat.render import baseline_lines, matrix_lines
from schemas.errors import FieldError

OLD = {
    "name": "old",
    "kernel_release": "6.1.192",
    "smm_carriers": (),
    "xcr0_mask": 7,
    "cpuid": {(7, 0): {"ebx": 0x21, "edx": 1 << 26}, (0x80000008, 0): {"eax": 48 << 8 | 40}},
    "features": {0x10A: 0x29, 0x345: 5},
    "msr_indices": (0x10, 0x9E, 0x10A, 0x345),
}
NEW = {
    "name": "new",
    "cpuid": {(7, 0): {"ebx": 0x100021}, (0x80000008, 0): {"eax": 57 << 8 | 52}, (0x23, 0): {"eax": 1}},
    "features": {0x10A: 0x8000D, 0x345: 6},
    "nested": None,
}


def test_a_baseline_of_two_hosts_fits_both_and_says_what_each_gives_up(make_host):
    old, new = make_host(OLD), make_host(NEW)
    made = baseline([old, new], "fleet")
    assert made.profile.name == "fleet"
    assert [host.verdict for host in made.hosts] == [Verdict.EXACT, Verdict.EXACT]
    assert all(host.blocked_by == () for host in made.hosts)
    given = [{finding.rule for finding in host.gives_up} for host in made.hosts]
    assert "CMP-101" in given[0]
    assert {"CMP-012", "CMP-127", "CMP-128", "CMP-139", "CMP-602"} <= given[1]
    view = CpuidView(made.profile.cpuid)
    assert view.value(7, 0, "ebx") == 0x21
    assert view.value(0x80000008, 0, "eax") == 48 << 8 | 40
    assert view.entry(0x23) is None
    values = made.profile.feature_msrs.values_by_index()
    assert values == {0x10A: 0x8000D, 0x345: 0}
    assert made.profile.kernel_release == "6.1.192"
    assert made.profile.smm_carriers == ()


def test_a_baseline_of_one_host_is_that_host(make_host):
    host = make_host({})
    made = baseline([host], host.name)
    assert made.profile.cpuid == host.cpuid
    assert made.hosts[0].gives_up == ()
    assert check_compat(made.profile, host).verdict is Verdict.EXACT


def test_a_component_that_lies_elsewhere_goes_with_the_features_that_need_it(make_host):
    ymm = {(1, 0): {"ecx": 1 << 28 | 1 << 26}, (7, 0): {"ebx": 1 << 5}}
    here = make_host({"cpuid": ymm})
    there = make_host({"cpuid": {**ymm, (0xD, 2): {"eax": 256, "ebx": 640}}})
    made = baseline([here, there])
    view = CpuidView(made.profile.cpuid)
    assert view.components == {}
    assert (view.value(0xD, 0, "eax"), made.profile.xcr0_mask, view.value(0xD, 0, "ecx")) == (3, 3, 576)
    assert not view.bit(1, 0, "ecx", 28)
    assert not view.bit(7, 0, "ebx", 5)
    assert [host.verdict for host in made.hosts] == [Verdict.EXACT, Verdict.EXACT]


def test_avx_512_needs_all_of_its_components(make_host):
    leaves = {(0xD, 0): {"eax": 0xE7}, **{(0xD, n): {"eax": 64 * n, "ebx": 600 + 600 * n} for n in (5, 6, 7)}}
    wide = {"cpuid": {**leaves, (7, 0): {"ebx": 1 << 16}}, "xcr0_mask": 0xE7}
    lame = {"cpuid": {**leaves, (0xD, 6): None, (7, 0): {"ebx": 1 << 16}}, "xcr0_mask": 0xE7}
    view = CpuidView(baseline([make_host(wide), make_host(lame)]).profile.cpuid)
    assert set(view.components) == {2}
    assert not view.bit(7, 0, "ebx", 16)


def test_hosts_of_two_vendors_have_no_exact_baseline(make_host):
    intel = {"vendor": "GenuineIntel", "cpuid": {(0, 0): {"ebx": 0x756E6547, "ecx": 0x6C65746E, "edx": 0x49656E69}}}
    made = baseline([make_host({}), make_host(intel)])
    assert made.profile.vendor == "mixed"
    assert made.verdict is Verdict.LOSSY
    assert {finding.rule for host in made.hosts for finding in host.blocked_by} == {"CMP-013"}


def test_unscaled_hosts_of_two_frequencies_are_told_so(make_host):
    def at(khz):
        return make_host({"tsc_khz": khz, "tsc_khz_min": khz, "tsc_khz_max": khz, "tsc_scaling": False})

    made = baseline([at(2_000_000), at(3_000_000)])
    assert "CMP-016" in {finding.rule for host in made.hosts for finding in host.blocked_by}


@pytest.mark.parametrize("seed", range(40))
def test_the_baseline_of_random_hosts_fits_each(seed, make_host):
    """Random bits in every register that a row compares; what cannot be made equal (EQUAL, lines) is left alone."""
    rng = random.Random(seed)
    left_alone = {(word.function, word.register) for word in ROWS if word.relation is words.Relation.EQUAL}
    left_alone |= {
        (0x80000008, "eax"),
        (0xD, "eax"),
        (0xD, "ebx"),
        (0xD, "ecx"),
        (0xD, "edx"),
        (0x1, "ebx"),
        (0x12, "eax"),
    }
    places = sorted({(w.function, w.subleaf, w.register) for w in ROWS if (w.function, w.register) not in left_alone})

    def host(name):
        cpuid = {}
        for function, subleaf, register in places:
            cpuid.setdefault((function, subleaf), {})[register] = rng.getrandbits(32)
        for leaf in ((1, 0), (7, 0)):
            cpuid[leaf]["ecx"] = cpuid[leaf]["ecx"] | 1 << 26
        features = {0x10A: rng.getrandbits(30), 0x345: rng.getrandbits(14)}
        return make_host({"name": name, "cpuid": cpuid, "features": features})

    hosts = [host(f"h{n}") for n in range(3)]
    made = baseline(hosts)
    rules = {finding.rule for one in made.hosts for finding in one.blocked_by}
    assert rules == set()


def test_the_count_of_hosts_is_bounded(make_host):
    for count in (0, MAX_HOSTS + 1):
        with pytest.raises(FieldError, match="profiles"):
            baseline([make_host({})] * count)
        with pytest.raises(FieldError, match="profiles"):
            matrix([make_host({})] * count)


def test_hosts_of_one_name_are_told_apart(make_host):
    assert matrix([make_host({}), make_host({})]).hosts == ("host-b", "host-b (2)")


def test_baseline_and_matrix_are_shown_as_text_and_as_markdown(make_host):
    hosts = [make_host(OLD), make_host({**NEW, "name": "n|e\nw"})]
    made, pairs = baseline(hosts), matrix(hosts)
    text = baseline_lines(made)
    assert text[1].startswith("old: exact, gives up ")
    assert any(line.startswith("  - CMP-012 vcpus.0.cpuid2: ") for line in text)
    markdown = baseline_lines(made, "markdown")
    assert "### n\\|e w: exact" in "\n".join(markdown)
    table = matrix_lines(pairs, "markdown")
    assert table[0] == "| from \\\\ to | old | n\\|e w |"
    assert len({row.count(" | ") for row in table}) == 1
    assert matrix_lines(pairs)[-1].startswith("n|e\nw -> old: impossible: CMP-")
