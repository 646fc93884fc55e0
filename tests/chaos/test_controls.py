"""Two controls that must come out wrong, or the other proofs here would prove nothing.

The code is popq's own; a trigger in the database takes away the effect of one of its two ideas.
"""

from __future__ import annotations

import time

from chaos.fleet import fleet_over, slow, world
from servers import _administer

from popq.flickr.fake.faults import Host

#: No term rises: a late settle finds the batch as it left it.
NO_FENCE = """
CREATE FUNCTION chaos() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN NEW.term := least(NEW.term, 1); RETURN NEW; END $$;
CREATE TRIGGER chaos BEFORE UPDATE ON batches FOR EACH ROW EXECUTE FUNCTION chaos();
"""
#: No lease runs out while anybody looks.
NO_RESCUE = """
CREATE FUNCTION chaos() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN NEW.due := NEW.due + 1000000; RETURN NEW; END $$;
CREATE TRIGGER chaos BEFORE UPDATE ON batches FOR EACH ROW
WHEN (NEW.state = 'leased') EXECUTE FUNCTION chaos();
"""


def test_without_the_fence_a_frozen_worker_doubles_effects(tmp_path, postgres, undisturbed, size):
    photos = size(120, 500)
    faults = slow(world(photos), [Host.IMAGE])
    with fleet_over(tmp_path, photos, threads=1, faults=faults, database_url=postgres) as fleet:
        fleet.resolve_here()
        _administer(postgres, NO_FENCE)
        fleet.enqueue("download", size=photos)
        fleet.start(2)
        fleet.freeze_one()
        fleet.finish("download")
        lines, _ = fleet.differences(undisturbed(photos))
        assert any(line.startswith("counts:") for line in lines), lines


def test_without_rescue_a_killed_worker_leaves_photos_behind(tmp_path, postgres, undisturbed, size):
    photos = size(120, 500)
    with fleet_over(tmp_path, photos, threads=1, database_url=postgres) as fleet:
        fleet.resolve_here()
        _administer(postgres, NO_RESCUE)
        fleet.enqueue("download", size=60)
        fleet.start(2)
        fleet.until(lambda: fleet.kills, fleet.kill_one)
        fleet.until(lambda: not fleet.count("batches WHERE state = 'ready'") and not fleet.busy())
        time.sleep(3 * fleet.home.rooms.settings.lease_s)
        assert not fleet.busy()
        lines, _ = fleet.differences(undisturbed(photos))
        assert any(line.startswith("photos:") for line in lines), lines
        assert any(line.startswith("open:") for line in lines), lines
