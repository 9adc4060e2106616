#ifndef TIMEWARP_SCHEDULE_H_
#define TIMEWARP_SCHEDULE_H_

#include "RandomKey.h"
#include "internal/windowsExportTimewarp.h"
#include <cstdint>
#include <vector>

namespace TimewarpPlugin {

/**
 * Says which of several moves is tried when, at random by weights.  It never depends on the state, which is
 * what makes a random sequence of moves exact.
 */
class EXPORT_TIMEWARP Schedule {
public:
    /** The place among the moves of a chain whose random numbers it draws. */
    static const std::uint16_t MOVE = 0xFFFF;
    void add(double weight);
    /** Get the weight of each move. */
    const std::vector<double>& getWeights() const {
        return weights;
    }
    /**
     * Get which move is tried.
     *
     * @param key    of MOVE
     * @param trial  the number of the try
     */
    int pick(const RandomKey& key, std::int64_t trial) const;

private:
    std::vector<double> weights;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_SCHEDULE_H_*/
