#ifndef TIMEWARP_BORN_FUNCTIONS_H_
#define TIMEWARP_BORN_FUNCTIONS_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

/*
 * The functions that a generalised Born energy is made of, as OpenMM's GBSAOBCForce has them: pairwise
 * descreening (Hawkins, Cramer and Truhlar, Chem. Phys. Lett. 246, 122 (1995)), and Born radii by the model
 * "OBC II" of Onufriev, Bashford and Case, Proteins 55, 383 (2004).  They are for loops over pairs, and
 * static so that each file has them as its own options compile them.
 */

namespace TimewarpPlugin {

/** From how many of its scaled radii on the field of a particle is computed as that of a far one. */
static const double FAR_RADII = 4;

/** A number whose sum with another one has that one's nearest integer in its last bits. */
static const double TO_INTEGER = 6755399441055744.0;

static inline std::uint64_t bitsOf(double x) {
    std::uint64_t bits;
    std::memcpy(&bits, &x, sizeof(bits));
    return bits;
}

static inline double fromBits(std::uint64_t bits) {
    double x;
    std::memcpy(&x, &bits, sizeof(x));
    return x;
}

/**
 * Get exp(-x) of a number that is not negative, to 1e-9 of it, by operations that processors do to several
 * numbers at a time.
 */
static inline double expOfMinus(double x) {
    // 2^n, n being the nearest integer to y, and a Taylor series of what remains.

    const double y = std::max(-1000.0, -1.4426950408889634 * x), shifted = y + TO_INTEGER;
    const double t = 0.6931471805599453 * (y - (shifted - TO_INTEGER));
    const double higher = 1.0 / 24 + t * (1.0 / 120 + t * (1.0 / 720 + t * (1.0 / 5040 + t * (1.0 / 40320))));
    const double series = 1 + t * (1 + t * (1.0 / 2 + t * (1.0 / 6 + t * higher)));
    return fromBits(bitsOf(series) + (bitsOf(shifted) << 52));
}

/**
 * Get the natural logarithm of a positive number, to 1e-11, in the same way.
 */
static inline double logarithm(double x) {
    // x = m 2^n, m being between 1/sqrt(2) and sqrt(2), and ln m = 2 artanh((m - 1)/(m + 1)).

    const std::uint64_t bits = bitsOf(x);
    const double two52 = 4503599627370496.0;
    const double significand = fromBits((bits & 0xFFFFFFFFFFFFFull) | 0x3FF0000000000000ull);
    const double exponent = fromBits((bits >> 52) | 0x4330000000000000ull) - (two52 + 1023);
    const bool isLarge = significand > 1.4142135623730951;
    const double m = isLarge ? 0.5 * significand : significand, n = isLarge ? exponent + 1 : exponent;
    const double f = (m - 1) / (m + 1), g = f * f;
    const double series =
            1 +
            g * (1.0 / 3 + g * (1.0 / 5 + g * (1.0 / 7 + g * (1.0 / 9 + g * (1.0 / 11 + g * (1.0 / 13))))));
    return 0.6931471805599453 * n + 2 * f * series;
}

/**
 * Get what a particle adds to the sum that another one's Born radius is made of (1/nm).
 *
 * @param reduced   radius of the other one less the offset (nm)
 * @param scaled    scaled radius of the particle (nm)
 * @param square    of the distance (nm^2)
 */
static inline double descreening(double reduced, double scaled, double square) {
    const double r = std::sqrt(square), inverse = 1 / r;
    const double l = 1 / std::max(reduced, std::fabs(r - scaled)), u = 1 / (r + scaled);
    const double l2 = l * l, u2 = u * u;
    const double term = l - u + 0.25 * r * (u2 - l2) + 0.5 * inverse * logarithm(u / l) +
                        0.25 * scaled * scaled * inverse * (l2 - u2);
    const double inside = reduced < scaled - r ? 2 * (1 / reduced - l) : 0;
    return reduced < r + scaled ? term + inside : 0;
}

/**
 * Get the same of particles that are at least FAR_RADII scaled radii apart and do not overlap, by a series in
 * (scaled / r)^2 whose error is below 4e-9 of it.
 */
static inline double farDescreening(double scaled, double square) {
    const double inverseSquare = 1 / square, e = scaled * scaled * inverseSquare;
    const double series =
            2.0 / 3 +
            e * (4.0 / 5 +
                 e * (6.0 / 7 + e * (8.0 / 9 + e * (10.0 / 11 + e * (12.0 / 13 + e * (14.0 / 15))))));
    return scaled * inverseSquare * e * series;
}

/**
 * Get the reciprocal of a Born radius (1/nm).
 *
 * @param radius    of the particle (nm)
 * @param reduced   the same less the offset (nm)
 * @param sum       of what all others add (1/nm)
 */
static inline double inverseBornRadius(double radius, double reduced, double sum) {
    const double psi = 0.5 * reduced * sum;
    return 1 / reduced - std::tanh(psi * (1 + psi * (-0.8 + psi * 4.85))) / radius;
}

} // namespace TimewarpPlugin

#endif /*TIMEWARP_BORN_FUNCTIONS_H_*/
