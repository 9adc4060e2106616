#ifndef TIMEWARP_BOUNDS_H_
#define TIMEWARP_BOUNDS_H_

#include "PeriodicBox.h"
#include "openmm/Vec3.h"
#include <algorithm>
#include <cmath>
#include <limits>

namespace TimewarpPlugin {

/**
 * A box that some points lie in (nm).
 */
struct Bounds {
    static constexpr double INFINITE = std::numeric_limits<double>::infinity();
    OpenMM::Vec3 low{INFINITE, INFINITE, INFINITE}, high{-INFINITE, -INFINITE, -INFINITE};

    bool isEmpty() const {
        return low[0] > high[0];
    }
    void include(const OpenMM::Vec3& otherLow, const OpenMM::Vec3& otherHigh) {
        for (int k = 0; k < 3; k++) {
            low[k] = std::min(low[k], otherLow[k]);
            high[k] = std::max(high[k], otherHigh[k]);
        }
    }
    /** Get whether a point is within a distance, but for rounding. */
    bool isNear(const OpenMM::Vec3& p, double distance) const {
        double square = 0;
        for (int k = 0; k < 3; k++) {
            double beyond = std::max({0.0, low[k] - p[k], p[k] - high[k]});
            square += beyond * beyond;
        }
        return square <= distance * distance * (1 + 1e-9);
    }
    /**
     * Visit all images of a point that are within a distance.
     *
     * @param box   NULL if the point has no images
     */
    template <class Visit>
    void visitNear(const OpenMM::Vec3& p, double distance, const PeriodicBox* box, Visit visit) const {
        if (box == NULL) {
            if (isNear(p, distance))
                visit(p);
            return;
        }

        // Images between the bounds, along one box vector after the other.

        const PeriodicBox& vectors = *box;
        auto first = [&](double x, int k) { return std::ceil((low[k] - distance - x) / vectors[k][k]); };
        auto isBelow = [&](double x, int k) { return x <= high[k] + distance; };
        for (double nc = first(p[2], 2); isBelow(p[2] + nc * vectors[2][2], 2); nc++) {
            OpenMM::Vec3 pc = p + vectors[2] * nc;
            for (double nb = first(pc[1], 1); isBelow(pc[1] + nb * vectors[1][1], 1); nb++) {
                OpenMM::Vec3 pb = pc + vectors[1] * nb;
                for (double na = first(pb[0], 0); isBelow(pb[0] + na * vectors[0][0], 0); na++)
                    if (isNear(pb + vectors[0] * na, distance))
                        visit(pb + vectors[0] * na);
            }
        }
    }
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_BOUNDS_H_*/
