#ifndef TIMEWARP_NONBONDED_PAIRS_H_
#define TIMEWARP_NONBONDED_PAIRS_H_

#include "BlockParticles.h"
#include "SystemState.h"
#include "SystemTerms.h"
#include <cstdint>
#include <vector>

namespace TimewarpPlugin {

/**
 * The pair terms of a NonbondedForce that contain a moved particle of a block, computed by loops on the CPU.
 *
 * The energy of a conformation is the same to the last bit whatever else is computed with it and whichever
 * particles beyond the cut-off are listed: each difference of positions is brought to its nearest image by
 * itself, and the pairs within the cut-off alone are added up, in the order of the particles.
 */
class NonbondedPairs {
public:
    /**
     * @param form            of a NonbondedForce; must outlive this
     * @param clashDistance   where pairs that are closer (nm) ...
     * @param clashEnergy     ... have more than this (kJ/mol), others are not added; see LocalEnergy
     */
    NonbondedPairs(const PairForm& form, const BlockParticles& block, double clashDistance,
                   double clashEnergy);
    /**
     * Compute the sum of the terms of each of some conformations.
     *
     * @param state       where everything else is
     * @param neighbors   other particles in ascending order: at least those within the cut-off of any
     *                    conformation
     * @param positions   of the moved particles in each conformation, [numRows, M, 3] (nm)
     * @param energies    on exit, of each conformation (kJ/mol)
     * @param clashes     on exit, set for those in which only the closest pairs were added up
     */
    void compute(const SystemState& state, const std::vector<int>& neighbors, const double* positions,
                 std::int64_t numRows, double* energies, std::vector<char>& clashes) const;

private:
    const PairForm* form;
    double clashDistance, clashEnergy;
    std::vector<int> moved;
    /**
     * What each of the moved particles has no term with: other particles, and places among the moved ones.
     */
    std::vector<std::vector<int>> excluded, excludedAmongMoved;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_NONBONDED_PAIRS_H_*/
