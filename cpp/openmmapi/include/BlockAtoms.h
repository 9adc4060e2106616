#ifndef TIMEWARP_BLOCK_ATOMS_H_
#define TIMEWARP_BLOCK_ATOMS_H_

#include <numeric>
#include <vector>

namespace TimewarpPlugin {

/**
 * The atoms of a block: those of a model, and what becomes of them.
 */
struct BlockAtoms {
    BlockAtoms() = default;
    /**
     * @param particles   the particle of each of the model's atoms, all of which are moved
     */
    explicit BlockAtoms(const std::vector<int>& particles) : particles(particles), moved(particles.size()) {
        std::iota(moved.begin(), moved.end(), 0);
        redrawn = moved;
    }
    /** The particle of each of the model's atoms. */
    std::vector<int> particles;
    /** The atoms that proposals move; the others are context. */
    std::vector<int> moved;
    /** The atoms that get new velocities with them. */
    std::vector<int> redrawn;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_BLOCK_ATOMS_H_*/
