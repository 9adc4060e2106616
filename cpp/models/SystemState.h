#ifndef TIMEWARP_SYSTEM_STATE_H_
#define TIMEWARP_SYSTEM_STATE_H_

#include "openmm/Vec3.h"
#include <array>
#include <map>
#include <string>
#include <vector>

namespace TimewarpPlugin {

/**
 * What the energy of a System depends on.  It is shared by all blocks, which look up what is near.
 */
struct SystemState {
    /** Of all particles (nm). */
    std::vector<OpenMM::Vec3> positions;
    /** Periodic box vectors (nm), in reduced form. */
    std::array<OpenMM::Vec3, 3> box;
    /** Global parameters of the Context. */
    std::map<std::string, double> parameters;

    bool operator==(const SystemState& other) const {
        return positions == other.positions && hasBoxAndParametersOf(other);
    }
    bool hasBoxAndParametersOf(const SystemState& other) const {
        return box == other.box && parameters == other.parameters;
    }
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_SYSTEM_STATE_H_*/
