#ifndef TIMEWARP_BLOCK_PARTICLES_H_
#define TIMEWARP_BLOCK_PARTICLES_H_

#include <map>
#include <set>
#include <vector>

namespace TimewarpPlugin {

/**
 * The particles of the System that the energy of a block is about.
 */
struct BlockParticles {
    /** Those that proposals move, in the order of the block's atoms. */
    std::vector<int> moved;
    /** Virtual sites that follow them; terms with these are left out. */
    std::set<int> following;
    /** Those that stay where they are, and that bonded terms act on. */
    std::vector<int> fixed;
    /** The place of each of the moved and, after them, the fixed ones. */
    std::map<int, int> places;
    bool isMoved(int particle) const {
        auto found = places.find(particle);
        return found != places.end() && found->second < (int)moved.size();
    }
    /**
     * Get the place of a particle, which becomes a fixed one if it is not known.
     */
    int placeOf(int particle) {
        auto [found, isNew] = places.insert({particle, (int)places.size()});
        if (isNew)
            fixed.push_back(particle);
        return found->second;
    }
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_BLOCK_PARTICLES_H_*/
