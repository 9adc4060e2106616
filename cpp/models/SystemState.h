#ifndef TIMEWARP_SYSTEM_STATE_H_
#define TIMEWARP_SYSTEM_STATE_H_

#include "PeriodicBox.h"
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
    PeriodicBox box;
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
