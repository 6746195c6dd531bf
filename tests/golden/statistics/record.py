"""Records statistics.json, the golden of tests/eval/statistics_test.cc: what scipy and statsmodels compute.

    python record.py            (needs scipy 1.14.1, statsmodels 0.14.4, pandas 2.2.3)

t_quantiles    [probability, degrees of freedom, scipy.stats.t.ppf]
clustered      differences of losses, two clusterings, and statsmodels' standard errors of their mean: a regression on a
               constant with one-way and two-way clustered covariance, small-sample factor G / (G - 1)
"""

import json
from pathlib import Path

import numpy
import statsmodels.api
from scipy.stats import t
from statsmodels.stats.sandwich_covariance import cov_cluster, cov_cluster_2groups

rng = numpy.random.default_rng(5)


def case(windows, documents, others):
    own, other = rng.integers(0, documents, windows), rng.integers(0, others, windows)
    differences = (rng.normal(-0.1, 0.02, windows) + 0.05 * rng.normal(size=documents)[own]
                   + 0.05 * rng.normal(size=others)[other])
    fit = statsmodels.api.OLS(differences, numpy.ones(windows)).fit()
    two_way, first, second = cov_cluster_2groups(fit, own, other)
    one_way = cov_cluster(fit, own)
    return {"differences": differences.tolist(), "own": own.tolist(), "other": other.tolist(),
            "own_error": one_way.item() ** 0.5, "own_variance": first.item(), "other_variance": second.item(),
            "two_way_variance": two_way.item(), "clusters": [len(set(own.tolist())), len(set(other.tolist()))]}


quantiles = [[p, n, float(t.ppf(p, n))] for p in (0.6, 0.9, 0.975, 0.9995) for n in (1, 2, 3, 4, 5, 9, 30, 101, 1000)]
sizes = [(40, 8, 9), (60, 6, 20), (12, 5, 7), (200, 30, 30), (12, 9, 9), (9, 6, 8), (10, 7, 8)]
golden = {"t_quantiles": quantiles, "clustered": [case(*size) for size in sizes]}
Path(__file__).with_name("statistics.json").write_text(json.dumps(golden) + "\n")
