#ifndef TIMEWARP_TRY_GROUPS_H_
#define TIMEWARP_TRY_GROUPS_H_

#include <cstdint>

namespace TimewarpPlugin {

/**
 * Some of the iterations of a try, counted from its first one.
 */
struct IterationGroup {
    std::int64_t start, end;
};

/**
 * Get the group that an iteration of a try is in.  There are at most 64 iterations in a group, and the sizes
 * of groups read the same backwards: the group's kernels are reversible each, and so is a sequence of them
 * that is its own opposite.
 *
 * @param iteration   which one of the try, from 0 on
 * @param length      the number of iterations of the try
 */
inline IterationGroup groupInTry(std::int64_t iteration, std::int64_t length) {
    const std::int64_t most = 64, outer = (length - 1) / (2 * most) * most, inner = length - 2 * outer;
    if (iteration < outer || iteration >= length - outer) {
        const std::int64_t first = iteration < outer ? 0 : length - outer;
        const std::int64_t start = first + (iteration - first) / most * most;
        return {start, start + most};
    }

    // What remains is one group, or two halves, with one iteration between them if it is odd.

    const std::int64_t end = length - outer, half = inner / 2;
    if (inner <= most)
        return {outer, end};
    if (iteration < outer + half)
        return {outer, outer + half};
    if (iteration >= end - half)
        return {end - half, end};
    return {outer + half, end - half};
}

} // namespace TimewarpPlugin

#endif /*TIMEWARP_TRY_GROUPS_H_*/
