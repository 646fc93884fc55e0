"""What a run's metrics say of the photos that it was judged on."""

from __future__ import annotations

from houses import quiet, stored_house

from popq import api
from popq.stages.dataset import Spec
from popq.stats import figures

SMALL = {"arch": "resnet18", "weights": "none", "image_size": 32, "epochs": 1}


def test_a_run_on_photos_of_unknown_owners_counts_them_and_warns(tmp_path):
    with stored_house(tmp_path, 30, owners=10) as home:
        with home.rooms.catalogue.begin() as tx:
            tx.exec_driver_sql("UPDATE photos SET owner = NULL WHERE id % 3 = 0")
        api.make_dataset(home.rooms, Spec("unknown", val=0.3, seed=4))
        run = api.new_run(home.rooms, "unknown", "default", SMALL)
        metrics = api.train(home.rooms, run, on_progress=quiet)["metrics"]
        counts = home.sql(
            "SELECT m.split, count(*) FROM members m JOIN photos p ON p.id = photo_id"
            " JOIN datasets d ON d.id = dataset_id"
            " WHERE d.name = 'unknown' AND p.owner IS NULL GROUP BY m.split"
        )
        judged, training = (dict(counts)[split] for split in ("val", "train"))
        assert metrics["without_owner"] == {"judged": judged, "training": training}
        assert metrics["shared_owners"]["photos"] == 0
        (warning,) = [one for one in figures.warnings(metrics) if "unknown" in one]
        assert f"owners of {judged} of {metrics['n']} judged photos and of {training} tr" in warning
