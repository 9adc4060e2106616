#ifndef TIMEWARP_NEAREST_IMAGES_H_
#define TIMEWARP_NEAREST_IMAGES_H_

#include "PeriodicBox.h"
#include <ATen/ATen.h>

namespace TimewarpPlugin {

/**
 * Get the shortest images of differences of positions, [..., 3], as OpenMM has them: each is the shortest of
 * all if it is shorter than half of the box.
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
