#ifndef TIMEWARP_PAIR_LOOPS_H_
#define TIMEWARP_PAIR_LOOPS_H_

#include "PeriodicBox.h"
#include <vector>

/**
 * Put before a loop, which is then compiled for several kinds of processors; the one at hand is found when
 * the library is loaded.  Each number is rounded in the same way on all of them, since files with such loops
 * are compiled without contraction of products and sums.
 */
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define TIMEWARP_PAIR_LOOP __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define TIMEWARP_PAIR_LOOP
#endif

namespace TimewarpPlugin {

/**
 * Positions of particles, an array for each coordinate (nm), so that loops work on several at a time.
 */
struct Points {
    std::vector<double> x, y, z;

    explicit Points(int size) : x(size), y(size), z(size) {
    }
    int size() const {
        return x.size();
    }
    OpenMM::Vec3 positionOf(int index) const {
        return OpenMM::Vec3(x[index], y[index], z[index]);
    }
    void place(int index, const OpenMM::Vec3& position) {
        x[index] = position[0];
        y[index] = position[1];
        z[index] = position[2];
    }
};

/**
 * Get the squared distances of particles from a point (nm^2), those of nearest images if there is a box.
 *
 * @param first   index of the first particle
 * @param count   how many particles
 */
void squaredDistances(const OpenMM::Vec3& point, const Points& particles, int first, int count,
                      const PeriodicBox* box, double* squares);

/**
 * Keep the numbers that are below a limit.
 *
 * @param first    what the first of them is called
 * @param kept     on exit, those kept; there must be room for all and one more
 * @param places   on exit, what they are called
 * @return how many are kept
 */
int keepBelow(double limit, const double* numbers, int count, int first, double* kept, int* places);

/**
 * Add up numbers in an order that depends on their count alone.
 */
double sumOf(const double* numbers, int count);

} // namespace TimewarpPlugin

#endif /*TIMEWARP_PAIR_LOOPS_H_*/
