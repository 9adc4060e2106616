#ifndef TIMEWARP_REPLICA_NUMBERS_H_
#define TIMEWARP_REPLICA_NUMBERS_H_

#include <algorithm>
#include <cstdint>
#include <map>
#include <utility>

namespace TimewarpPlugin {

/**
 * Tells replicas apart that go on from one State in one Context, as those of replica exchange do: all begin
 * with the same State, and are loaded by turns.  A State that takes the run back to where one has already
 * been loaded, or before it, is another replica's, and has random numbers of its own from then on.  Its own
 * States say which replica's they are.  A State that is loaded for the first time resumes its run.
 */
class ReplicaNumbers {
public:
    /**
     * Get the number of the replica that goes on from a State.
     *
     * @param seed        the seed that it goes on with
     * @param replica     the number of the replica that the State was saved by
     * @param iteration   the iteration that comes next
     */
    std::int64_t choose(std::int64_t seed, std::int64_t replica, std::int64_t iteration) {
        highest = std::max(highest, replica);
        auto place = furthest.find({seed, replica});
        if (place != furthest.end() && iteration <= place->second)
            return ++highest;
        furthest[{seed, replica}] = iteration;
        return replica;
    }

private:
    std::int64_t highest = 0;
    /** The iteration of the furthest State that was loaded, for each seed and replica. */
    std::map<std::pair<std::int64_t, std::int64_t>, std::int64_t> furthest;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_REPLICA_NUMBERS_H_*/
