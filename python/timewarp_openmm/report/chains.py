"""Sections on the chains: acceptance, effective samples, velocities, training curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..analysis.autocorrelation import (
    ENOUGH,
    SamplingQuality,
    circular_quality,
    detect_equilibration,
    sampling_quality,
    stack_chains,
)
from ..analysis.chain import ChainWatch
from ..analysis.normality import compare_with_normal
from ..analysis.tica import SlowCoordinates
from ..curves import METRICS_FILE, read_metrics
from . import drawing
from .findings import Picture, Section, columns, show
from .study import FLOW, LONG, MD, SHORT, Study

_RHAT_LIMIT = 1.05


def acceptance_section(study: Study, warnings: list[str]) -> Section:
    """Moves over time and the longest stay."""
    section = Section(
        "acceptance",
        "Acceptance over time",
        "The share of recorded frames that differ from the frame before. With one iteration "
        "between frames that is the acceptance; with n iterations it is 1 - (1 - a)^n for an "
        "acceptance a that does not change from state to state.",
    )
    with section.attempt("acceptance"):
        if study.chain is None:
            raise ValueError("the chain could not be read")
        if all(chain.watch.frames < 2 for chain in study.chain.chains):
            raise ValueError("there is one frame only")
        for chain in study.chain.chains:
            section.numbers[chain.name] = _moves(chain.watch)
        warnings += [note for c in study.chain.chains if (note := _long_stay(c.name, c.watch))]
        lines = {c.name: _over_time(c.watch) for c in study.chain.chains}
        rows = {c.name: _moves_row(c.watch) for c in study.chain.chains}
        figure = drawing.draw_lines(lines, ("frame", "share that moved"), bottom=0.0)
        section.pictures.append(Picture("acceptance", "Frames that moved, over time.", figure))
        header = ["chain", "frames", "moved", "longest stay"]
        section.tables.append(columns(header, rows))
    if study.run is not None:
        run = study.run
        section.text += (
            f" A run of {run.iterations} single iterations with the model accepted "
            f"{run.acceptance:.1%}; its longest stay was {run.longest_stay} iterations."
        )
        section.numbers["model_run"] = {
            "iterations": run.iterations,
            "acceptance": run.acceptance,
            "longest_stay_iterations": run.longest_stay,
        }
    return section


def _moves(watch: ChainWatch) -> dict[str, Any]:
    means = watch.over_time
    return {
        "frames": watch.frames,
        "moved": watch.moved_share,
        "longest_stay_frames": watch.longest_stay,
        "longest_stay_at": watch.longest_at,
        "over_time": {"frames_per_value": means.size, "moved": means.values},
    }


def _moves_row(watch: ChainWatch) -> list[str]:
    longest = f"{watch.longest_stay} frames, from frame {watch.longest_at}"
    return [str(watch.frames), show(watch.moved_share), longest]


def _over_time(watch: ChainWatch) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    values = watch.over_time.values
    return np.arange(len(values), dtype=float) * watch.over_time.size, values


def _long_stay(name: str, watch: ChainWatch) -> str | None:
    if watch.longest_stay <= 0.05 * watch.frames or watch.frames <= 100:
        return None
    return (
        f"{name} stood still for {watch.longest_stay} of {watch.frames} frames "
        f"(from frame {watch.longest_at})"
    )


def sampling_section(
    study: Study,
    slow: SlowCoordinates | None,
    energies: dict[str, NDArray[np.float64]],
    warnings: list[str],
) -> Section:
    """Autocorrelation times, effective samples and R-hat of every torsion and TIC."""
    section = Section(
        "sampling",
        "Sampling quality",
        "tau is the statistical inefficiency N / ESS in frames, ESS the effective samples of all "
        "chains together (of an angle: the worse of sine and cosine), R-hat the rank-normalised "
        "split R-hat. None of them can see a state that no chain has visited.",
    )
    for label, sample in study.samples().items():
        if label in (FLOW, SHORT):
            continue
        found: dict[str, SamplingQuality] = {}
        for column, torsion in enumerate(study.torsions):
            with section.attempt(f"{torsion.name} of {label}"):
                chains = stack_chains([t[:, column] for t in sample.torsions])
                # Like hydrogens: the angle within one of `fold` equal wells.
                found[torsion.name] = circular_quality(chains * torsion.fold)
        if slow is not None:
            parts = [slow.project(t[:, study.rotatable]) for t in sample.torsions]
            for k in range(parts[0].shape[1]):
                with section.attempt(f"TIC {k + 1} of {label}"):
                    found[f"TIC {k + 1}"] = sampling_quality(stack_chains([p[:, k] for p in parts]))
        _show_quality(section, label, found, sample.stride, warnings)
    _equilibration(section, study, energies)
    return section


def _show_quality(
    section: Section,
    label: str,
    found: dict[str, SamplingQuality],
    stride: int,
    warnings: list[str],
) -> None:
    if not found:
        return
    ordered = dict(sorted(found.items(), key=lambda item: item[1].ess))
    section.tables.append(
        columns(
            ["quantity", "tau / frames", "ESS", "R-hat"],
            {
                name: [
                    show(q.tau * stride, q.tau_error * stride),
                    show(q.ess, q.ess_error) + (" (!)" if q.ess < ENOUGH else ""),
                    show(q.rhat, digits=4) + (" (!)" if q.rhat > _RHAT_LIMIT else ""),
                ]
                for name, q in ordered.items()
            },
            label,
        )
    )
    section.numbers[label] = {
        name: {
            "tau_frames": q.tau * stride,
            "tau_error": q.tau_error * stride,
            "ess": q.ess,
            "ess_error": q.ess_error,
            "rank_rhat": q.rhat,
        }
        for name, q in ordered.items()
    }
    poor = [name for name, q in ordered.items() if q.ess < ENOUGH]
    if poor:
        name = "MD reference" if label == MD else "chain"
        warnings.append(
            f"fewer than {ENOUGH:.0f} effective samples in the {name}: "
            + ", ".join(f"{n} ({ordered[n].ess:.1f})" for n in poor)
            + "; averages over them are not known yet"
        )
    apart = [name for name, q in ordered.items() if q.rhat > _RHAT_LIMIT]
    if apart and label == LONG:
        warnings.append(f"chains (or their halves) disagree: R-hat of {', '.join(apart)}")


def _equilibration(
    section: Section, study: Study, energies: dict[str, NDArray[np.float64]]
) -> None:
    sample = study.samples().get(LONG)
    if sample is None:
        return
    section.text += " Equilibration is that of the first chain's slowest torsion and energy."
    rows = {}
    quality = section.numbers.get(LONG, {})
    slowest = [name for name in quality if not name.startswith("TIC")][:1]
    series: dict[str, tuple[NDArray[np.float64], float]] = {}
    for name in slowest:
        column = [t.name for t in study.torsions].index(name)
        series[f"sin of {name}"] = (np.sin(sample.torsions[0][:, column]), sample.stride)
        series[f"cos of {name}"] = (np.cos(sample.torsions[0][:, column]), sample.stride)
    if LONG in energies and study.chain is not None and len(study.chain.chains) == 1:
        every = study.chain.num_frames / len(energies[LONG])
        series["potential energy"] = (energies[LONG], every)
    for name, (values, stride) in series.items():
        with section.attempt(f"equilibration of {name}"):
            found = detect_equilibration(values)
            rows[name] = [show(found.start * stride), show(found.ess)]
            section.numbers.setdefault("equilibration", {})[name] = {
                "start_frame": found.start * stride,
                "ess_after": found.ess,
            }
    if rows:
        section.tables.append(
            columns(["quantity", "settled from frame", "ESS after it"], rows, "Equilibration")
        )


def velocities_section(study: Study) -> Section:
    """Auxiliary velocities against N(0, 1)."""
    section = Section(
        "velocities",
        "Auxiliary velocities",
        "v = v_phys sqrt(m / kT) must be standard normal in the chain, whatever the model. What "
        "the flow gives before the test need not be.",
    )
    if not study.velocities:
        section.problems.append("auxiliary velocities: trajectories hold none; give --model")
        return section
    flat = {label: v[np.isfinite(v)].ravel() for label, v in study.velocities.items()}
    rows = {}
    for label, values in flat.items():
        with section.attempt(f"velocities of {label}"):
            found = compare_with_normal(values)
            rows[label] = [
                str(found.count), show(found.mean), show(found.variance), show(found.kurtosis),
                f"{found.distance:.4f} ({found.critical:.4f})",
            ]  # fmt: skip
            section.numbers[label] = vars(found)
    section.pictures.append(
        Picture(
            "velocities",
            "Auxiliary velocities against N(0, 1).",
            drawing.draw_histograms(flat, "auxiliary velocity", normal=True),
        )
    )
    header = ["where", "numbers", "mean", "variance", "kurtosis", "KS distance (1 % limit)"]
    section.tables.append(columns(header, rows))
    return section


def training_section(folder: Path) -> Section:
    """Curves of a training run."""
    section = Section("training", "Training", f"Curves of the run {folder.name}.")
    with section.attempt("training curves"):
        entries = read_curves(folder)
        steps = np.array([entry["step"] for entry in entries], dtype=float)
        for kind, label in (("log_likelihood", "log-likelihood / nats"), ("loss", "loss")):
            lines = {
                f"{part} {kind.replace('_', '-')}": (
                    steps, np.array([e[f"{part}_{kind}"] for e in entries], dtype=float)
                )
                for part in ("train", "test")
                if all(f"{part}_{kind}" in e for e in entries)
            }  # fmt: skip
            if lines:
                figure = drawing.draw_lines(lines, ("step", label))
                section.pictures.append(Picture(f"training-{kind}", f"{label} by step.", figure))
        section.numbers["last"] = entries[-1]
    return section


def read_curves(folder: Path) -> list[dict[str, float]]:
    """Return the lines of a run folder's metrics.jsonl.

    Raises
    ------
    ValueError
        If there are none.
    """
    path = folder / METRICS_FILE
    if not path.is_file():
        raise ValueError(f"{folder} holds no {METRICS_FILE}; it is not a training run's folder")
    entries = read_metrics(folder)
    if not entries:
        raise ValueError(f"{path} is empty: the run has not reached its first test yet")
    return entries
