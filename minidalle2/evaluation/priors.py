"""The priors that are compared: those in a folder of weights, and two that need no training."""

from pathlib import Path

from minidalle2.dalle2 import DALLE2, load_prior
from minidalle2.evaluation.similarity import Pairs
from minidalle2.prior import Prior
from minidalle2.priors.analytic_prior import STEPS, AnalyticPrior
from minidalle2.priors.kinds import PRIORS
from minidalle2.priors.regression_prior import ridge
from minidalle2.storage.progress import Work, working
from minidalle2.unclip import AnyPrior

MEASURED = 256  # pairs from which Analytic-DPM estimates its variances


def all_priors(folder: Path, dalle2: DALLE2, train: Pairs) -> dict[str, AnyPrior]:
    """Returns every prior in `folder` by its name, and two priors that are computed from `train`.

    The two are ridge regression, and Analytic-DPM, another sampler of the diffusion prior.
    """
    device = train.z_i.device
    priors: dict[str, AnyPrior] = {"ridge": ridge(train.z_t, train.z_i)}
    for name, kind in PRIORS.items():
        if kind.model is not Prior and (folder / kind.stage).is_dir():
            priors[name] = load_prior(folder, kind).to(device)
    few = slice(0, MEASURED)
    priors["diffusion"] = dalle2.prior
    work = Work(dalle2.prior, rows=len(train.z_i[few]), calls=STEPS, cost=1)
    with working("measuring the variances of the analytic prior", [work]):
        priors["analytic"] = AnalyticPrior(
            dalle2.prior, train.z_i[few], train.z_t[few], train.tokens[few]
        )
    return priors
