"""`popq runs` and `popq train --follow`, as a person sees them."""

import signal

from popq import api

TRAIN = (
    *("train", "--dataset", "main", "--arch", "resnet18", "--weights", "none"),
    *("--image-size", "32", "--follow"),
)


def ready(popq):
    popq("import", "links.txt", "--labels", "labels.txt")
    popq("resolve")
    popq("download")
    popq("dataset", "create", "main", "--val", "0.3")


def test_a_run_is_followed_stopped_and_gone_on_with(home, popq):
    ready(popq)
    waits = popq.json(*TRAIN[:-1], "--epochs", "400", "--enqueue")["id"]
    assert "is stopped" in popq("runs", "stop", waits)[0]
    assert "is stopped already" in popq("runs", "stop", waits, status=2)[1]
    with popq.start(*TRAIN, "--epochs", "400", OMP_NUM_THREADS="1") as process:
        lines = iter(process.stderr.readline, "")
        header = next(line for line in lines if "val accuracy" in line)
        assert header.split()[:3] == ["epoch", "loss", "accuracy"]
        assert next(lines).split()[0].endswith("/400")
        # The same wish as the run that was stopped, so the same run.
        assert api.show_run(home.rooms, waits)["state"] == "running"
        assert "stops after its next batch" in popq("runs", "stop", waits)[0]
        rest = process.stderr.read()
        assert process.wait(60) == 130
    assert "stopped by name" in rest
    found = popq.json("runs", waits)
    assert found["state"] == "stopped"
    assert 0 < len(found["epochs"]) < 400

    with popq.start(*TRAIN, "--epochs", "400", OMP_NUM_THREADS="1") as process:
        next(line for line in iter(process.stderr.readline, "") if "val accuracy" in line)
        process.send_signal(signal.SIGTERM)
        assert "Stopping after this batch" in process.stderr.read()
        assert process.wait(60) == 130
    assert popq.json("runs", waits)["state"] == "stopped"


def test_a_gpu_that_is_not_there_and_a_worker_that_has_its_own(home, popq):
    ready(popq)
    err = popq(*TRAIN, "--device", "cuda:63", status=3)[1]
    assert "--device cpu" in err
    assert popq.json("runs")[0]["state"] == "stopped"
    assert "POPQ_DEVICE" in popq(*TRAIN, "--device", "cpu", "--enqueue", status=2)[1]
