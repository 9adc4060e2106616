#ifndef TIMEWARP_RANDOM_KEY_H_
#define TIMEWARP_RANDOM_KEY_H_

#include "internal/windowsExportTimewarp.h"
#include <cstdint>
#include <map>
#include <string>

namespace TimewarpPlugin {

/**
 * Whose random numbers they are.  Two of these that differ in any member have nothing in common, but for a
 * chance of 2^-32 or less that two numbers of thermodynamic states, or two keys of replicas, are the same.
 */
struct RandomKeyParts {
    /** The seed of the run. */
    std::int64_t seed = 0;
    /** The number of the thermodynamic state; see thermodynamicState(). */
    std::uint64_t state = 0;
    /** Tells apart runs that began with one State in one Context; see ReplicaNumbers. */
    std::int64_t replica = 0;
    /** The chain's place among those of its Context. */
    std::uint16_t chain = 0;
    /** The move's place among those of its chain. */
    std::uint16_t move = 0;
};

/**
 * Names a sequence of random numbers for each iteration of a chain, in the words of a counter based generator
 * (Philox 4x32-10, Salmon et al. 2011).  The generator's counter is (block, stream, iteration), 32, 32 and 64
 * bits.
 *
 * Chain and move are in the counter, so that no two chains of a Context can have a number in common whatever
 * their seeds are.  The seed fills the lower half of the key and the whole of the state's number is added to
 * it, so that two seeds in two states can only meet if the upper halves of the states' numbers agree.
 */
class EXPORT_TIMEWARP RandomKey {
public:
    explicit RandomKey(const RandomKeyParts& parts);
    /**
     * Get the generator's key.
     */
    std::uint64_t getKey() const {
        return key;
    }
    /**
     * Get the second word of the generator's counter.
     */
    std::uint32_t getStream() const {
        return stream;
    }

    bool operator==(const RandomKey& other) const {
        return key == other.key && stream == other.stream;
    }

private:
    std::uint64_t key;
    std::uint32_t stream;
};

/**
 * Number a thermodynamic state (FNV-1a), so that every temperature and every set of parameters has random
 * numbers of its own.
 *
 * @param temperature   the temperature (in Kelvin)
 * @param forceGroups   the force groups that make up the energy
 * @param parameters    the Context's parameters
 */
std::uint64_t EXPORT_TIMEWARP thermodynamicState(double temperature, int forceGroups,
                                                 const std::map<std::string, double>& parameters);

} // namespace TimewarpPlugin

#endif /*TIMEWARP_RANDOM_KEY_H_*/
