#ifndef TIMEWARP_RIGID_MOTION_GUARD_H_
#define TIMEWARP_RIGID_MOTION_GUARD_H_

#include "KeptMotions.h"
#include "RigidMotion.h"
#include "internal/windowsExportTimewarp.h"
#include "openmm/Vec3.h"
#include <cstdint>
#include <set>
#include <vector>

namespace TimewarpPlugin {

/**
 * Guards against a chain that is stuck in one place.  A flow of shapes never moves or turns the molecule.
 * That is no loss where the energy does not depend on it; where it does (a restraint, a field, other
 * molecules, a box that periodic images feel), the chain would sample only the states of one place and
 * orientation, unless rigid moves are made as well.
 *
 * The energies of rigidly moved copies tell.  They are asked for at the first step, in every thermodynamic
 * state that is new, and after other changes of positions or energy that the chain has not made itself: after
 * the 1st, 2nd, 4th, 8th and so on, so that a script which makes one at every step does not pay for it.
 */
class EXPORT_TIMEWARP RigidMotionGuard {
public:
    /**
     * Get by how much the energy must change to count (kJ/mol): by more than 1e-3 kT and its own rounding.
     * That is taken to be 1e-6 of it (most platforms, and most learned potentials, compute energies in single
     * precision), and what it changes when positions are rounded to single precision.
     *
     * @param energy      of the state (kJ/mol)
     * @param positions   of the moved atoms (nm)
     * @param forces      on them (kJ/mol/nm)
     */
    static double threshold(double energy, double kT, const std::vector<OpenMM::Vec3>& positions,
                            const std::vector<OpenMM::Vec3>& forces);
    /**
     * Begin anew: at the next state that must be checked it is to be found out what proposals keep.
     */
    void reset();
    /**
     * Say which rigid motions are made by moves of their own.
     */
    void setMade(const RigidMotions& motions);
    const RigidMotions& getMade() const {
        return made;
    }
    /**
     * Get whether energies must be compared.
     *
     * @param thermodynamicState   the number of the thermodynamic state
     * @param changed              whether positions or energy are others than the chain has left
     */
    bool mustCompare(std::uint64_t thermodynamicState, bool changed);
    /**
     * Note that they have been compared, and that the chain may go on.
     */
    void pass() {
        passed = true;
    }
    /**
     * Get whether it is known what proposals keep.
     */
    bool isKnown() const {
        return known;
    }
    void setKept(const KeptMotions& motions);
    /**
     * Get rigid motions to compare the energies of: of those that nothing makes.
     */
    std::vector<RigidMotion> motionsToCompare() const;
    /**
     * Get which motions must be made if the energy changes with some of them.  Where it depends on the place
     * it will depend on the orientation, too, in that place or another.
     *
     * @param felt   with which it changes
     */
    RigidMotions findNeeded(const RigidMotions& felt) const;
    /**
     * Throw an exception which says that the energy changes although nothing moves the molecule.
     *
     * @param change   by how much (kJ/mol)
     */
    [[noreturn]] void refuse(double change) const;

private:
    RigidMotions neverMade() const;
    bool known = false, passed = false;
    KeptMotions kept;
    RigidMotions made;
    std::set<std::uint64_t> seen;
    std::int64_t numChanges = 0;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_RIGID_MOTION_GUARD_H_*/
