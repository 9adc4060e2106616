#ifndef TIMEWARP_NEAREST_IMAGES_H_
#define TIMEWARP_NEAREST_IMAGES_H_

#include "openmm/Vec3.h"
#include <ATen/ATen.h>
#include <array>
#include <cmath>

namespace TimewarpPlugin {

/** Vectors of a periodic box in reduced form (nm): a is along x, b in the plane of x and y. */
using PeriodicBox = std::array<OpenMM::Vec3, 3>;

/**
 * Get the shortest image of a difference of positions, as OpenMM has it: it is the shortest of all if it is
 * shorter than half of the box.
 */
inline OpenMM::Vec3 nearestImage(OpenMM::Vec3 difference, const PeriodicBox& box) {
    for (int i = 2; i >= 0; i--)
        difference -= box[i] * std::floor(difference[i] / box[i][i] + 0.5);
    return difference;
}

/**
 * As above, of many differences at once, [..., 3].
 */
inline at::Tensor nearestImages(const at::Tensor& differences, const PeriodicBox& box) {
    at::Tensor x = differences.select(-1, 0), y = differences.select(-1, 1), z = differences.select(-1, 2);
    at::Tensor c = at::floor(z / box[2][2] + 0.5);
    y = y - c * box[2][1];
    at::Tensor b = at::floor(y / box[1][1] + 0.5);
    x = x - c * box[2][0] - b * box[1][0];
    return at::stack({x - at::floor(x / box[0][0] + 0.5) * box[0][0], y - b * box[1][1], z - c * box[2][2]},
                     -1);
}

} // namespace TimewarpPlugin

#endif /*TIMEWARP_NEAREST_IMAGES_H_*/
