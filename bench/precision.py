"""bfloat16 against float32 on a CPU: the speed of a step and the score after the same samples and the same time.

    python bench/precision.py [--seconds 90] [--seeds 0 1 2]

Trains the default recipe in both precisions, interleaved, for the same wall time; and reports samples a second and
the KID on the test split. Writes records/precision.json.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from common import write_record

import equipoise as eq


def main() -> None:
    """Alternate the two precisions and record speed and score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=90)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds:
            for precision in ("float32", "bfloat16"):
                out = Path(folder) / f"{precision}-{seed}"
                settings = [f"precision={precision}"]
                run = eq.train("mnist", budget=f"{options.seconds}s", seed=seed, out=out, settings=settings)
                state = run.state
                assert state.test is not None
                runs.append(
                    {
                        "precision": precision,
                        "seed": seed,
                        "samples": state.samples,
                        "seconds": state.seconds,
                        "kid_test": state.test.loss,
                        "kid_test_se": state.test.error,
                        "fid_test": state.test.value("fid"),
                    }
                )
                print(runs[-1], flush=True)
    medians = {
        precision: {
            key: statistics.median(run[key] for run in runs if run["precision"] == precision)
            for key in ("samples", "kid_test", "fid_test")
        }
        for precision in ("float32", "bfloat16")
    }
    print(write_record("precision", {"seconds": options.seconds, "medians": medians, "runs": runs}))


if __name__ == "__main__":
    main()
