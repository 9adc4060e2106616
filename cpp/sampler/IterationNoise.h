#ifndef TIMEWARP_ITERATION_NOISE_H_
#define TIMEWARP_ITERATION_NOISE_H_

#include "RandomKey.h"
#include <ATen/core/PhiloxRNGEngine.h>
#include <cmath>
#include <cstdint>

namespace TimewarpPlugin {

/**
 * The random numbers of one Metropolis-Hastings iteration.  They are a function of (RandomKey, iteration)
 * alone, by a counter based generator (Philox 4x32-10, Salmon et al. 2011).  So a batch of proposals can be
 * computed ahead, thrown away and computed again without changing the chain, and a checkpoint need hold no
 * more than the numbers that the key is made of.
 *
 * NoiseLayout says what they are used for.  Devices draw the normal deviates by a kernel of their own
 * (kernels/timewarpModel.cc), which must agree with this.
 */
class IterationNoise {
public:
    /**
     * @param block   the block of the generator to begin with
     */
    IterationNoise(const RandomKey& key, std::uint64_t iteration, std::uint32_t block = 0)
            : engine(key.getKey(), iteration, static_cast<std::uint64_t>(key.getStream()) << 32 | block) {
    }
    /**
     * Draw uniformly from (0, 1].
     */
    double uniform() {
        std::uint64_t high = engine(), low = engine();
        return (static_cast<double>((high << 21) | (low >> 11)) + 1.0) * 0x1p-53;
    }
    /**
     * Fill an array with independent standard normal deviates (Box-Muller), rounded to single precision.
     */
    template <typename Real> void normal(Real* values, int count) {
        constexpr double twoPi = 6.283185307179586477;
        for (int i = 0; i < count; i += 2) {
            double radius = std::sqrt(-2.0 * std::log(uniform()));
            double angle = twoPi * uniform();
            values[i] = static_cast<float>(radius * std::cos(angle));
            if (i + 1 < count)
                values[i + 1] = static_cast<float>(radius * std::sin(angle));
        }
    }

private:
    at::Philox4_32 engine;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_ITERATION_NOISE_H_*/
