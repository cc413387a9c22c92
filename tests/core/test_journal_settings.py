"""The journal's settings refuse what no journal could work with."""

from __future__ import annotations

import msgspec
import pytest

from daemon.core.journal_settings import JournalSettings


@pytest.mark.parametrize("field", ["keep_days", "keep_events", "prune_interval"])
def test_what_is_kept_is_no_negative_number(field):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({field: -1}, JournalSettings)
