"""What the doctor says of the machine, read from files that say what a machine may say."""

import pytest

from flowlift.cli.doctor import pages

ASKED = {"GLIBC_TUNABLES": "glibc.malloc.check=1:glibc.malloc.hugetlb=1"}


@pytest.mark.parametrize("said", ["[always] madvise never\n", "always madvise [never]\n", None])
@pytest.mark.parametrize("environment", [{}, ASKED])
def test_pages_are_no_matter_where_asking_changes_nothing(tmp_path, said, environment):
    file = tmp_path / "enabled"
    if said is not None:
        file.write_text(said)
    assert list(pages(environment, file)) == []


def test_pages_of_two_megabytes_have_to_be_asked_for(tmp_path):
    file = tmp_path / "enabled"
    file.write_text("always [madvise] never\n")
    # The number is the one that counts: 2 and 10 ask for something else, as does another tunable.
    for value in ({}, {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=10:glibc.malloc.check=1"}):
        (line,) = pages(value, file)
        assert "a million edges" in line
        assert line.endswith("set GLIBC_TUNABLES=glibc.malloc.hugetlb=1 before Python starts")
    (line,) = pages(ASKED, file)
    assert line.startswith("pages      of 2 MB")
