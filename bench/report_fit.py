# SPDX-License-Identifier: Apache-2.0
"""Least squares for a few unknowns. A point is (values of the terms, measured)."""


def _solve(matrix, right):
    """The solution of a small system of linear equations (Gauss)."""
    size = len(right)
    rows = [list(matrix[i]) + [right[i]] for i in range(size)]
    for i in range(size):
        pivot = max(range(i, size), key=lambda r: abs(rows[r][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for r in range(i + 1, size):
            factor = rows[r][i] / rows[i][i]
            rows[r] = [a - factor * b for a, b in zip(rows[r], rows[i])]
    result = [0.0] * size
    for i in reversed(range(size)):
        result[i] = (rows[i][size] - sum(rows[i][j] * result[j] for j in range(i + 1, size))) / rows[i][i]
    return result


def fit(points):
    """The factors of the terms, and R squared."""
    terms = range(len(points[0][0]))
    matrix = [[sum(x[i] * x[j] for x, _ in points) for j in terms] for i in terms]
    factors = _solve(matrix, [sum(x[i] * y for x, y in points) for i in terms])
    mean = sum(y for _, y in points) / len(points)
    errors = sum((y - sum(f * v for f, v in zip(factors, x))) ** 2 for x, y in points)
    total = sum((y - mean) ** 2 for _, y in points)
    return factors, 1 - errors / total if total > 0 else 1.0


def relative_fit(points):
    """The factors with the least squares of relative errors: each point counts the same, whatever its size."""
    return fit([(tuple(v / y for v in x), 1.0) for x, y in points])[0]


def log_spread(ratios, share):
    """By how much, up or down, that share of the ratios of measured to expected is off at most: 0.1 is 10 %."""
    off = sorted(max(ratio, 1 / ratio) - 1 for ratio in ratios)
    return off[max(0, round(share * len(off)) - 1)]
